package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/cmd/exitcode"
	"github.com/npcnix/npcnix/reconciler/window"
)

// maxAnswer bounds an answer on the socket, in bytes.
const maxAnswer = 1 << 20

// verbs are what a person on the host may ask the running agent for.
func verbs() []string { return []string{"status", "suspend", "resume", "reconcile", "retry"} }

// isVerb reports whether the command line asks the running agent.
func isVerb(args []string) bool { return len(args) > 0 && slices.Contains(verbs(), args[0]) }

// ask asks the running agent over its socket.
func ask(ctx context.Context, args []string, w world) int {
	verb := args[0]
	f := flag.NewFlagSet("npcnix-reconciler "+verb, flag.ContinueOnError)
	f.SetOutput(w.stderr)
	root := f.String("root", "/", "directory that stands for /")
	format := f.String("o", "text", "text or json")
	var q request
	if verb == "suspend" {
		f.StringVar(&q.Reason, "reason", "", "why, for whoever asks; required")
		f.DurationVar(&q.For, "for", 0, "how long, such as 2h; without it until resume")
	}
	switch err := f.Parse(args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		return exitcode.OK
	case err != nil:
		return exitcode.BadUsage
	}
	if err := wrongUsage(verb, *format, q, f.Args()); err != nil {
		_, _ = fmt.Fprintf(w.stderr, "npcnix-reconciler %s: %v\n", verb, err)
		return exitcode.BadUsage
	}
	a, err := talk(ctx, *root, verb, q)
	if err != nil {
		_, _ = fmt.Fprintf(w.stderr, "npcnix-reconciler %s: %v\n", verb, err)
		return exitcode.Internal
	}
	if *format == "json" {
		data, err := json.MarshalIndent(a, "", "  ")
		if err != nil {
			_, _ = fmt.Fprintf(w.stderr, "npcnix-reconciler %s: %v\n", verb, err)
			return exitcode.Internal
		}
		_, _ = fmt.Fprintf(w.stdout, "%s\n", data)
		return exitcode.OK
	}
	printAnswer(w.stdout, a)
	return exitcode.OK
}

// wrongUsage says what is wrong with a verb's command line.
func wrongUsage(verb, format string, q request, rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case format != "text" && format != "json":
		return fmt.Errorf("-o is text or json, not %q", format)
	case verb == "suspend" && strings.TrimSpace(q.Reason) == "":
		return errors.New("say why with --reason")
	case q.For < 0:
		return errors.New("--for is less than nothing")
	default:
		return nil
	}
}

// talk sends one request and reads the answer.
func talk(ctx context.Context, root, verb string, q request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, controlLimit)
	defer cancel()
	path := socketPath(root)
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	method := http.MethodPost
	if verb == "status" {
		method = http.MethodGet
	}
	body, err := json.Marshal(q)
	if err != nil {
		return answer{}, fmt.Errorf("encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent/"+verb, bytes.NewReader(body)) //nolint:gosec // one of verbs, over a socket
	if err != nil {
		return answer{}, fmt.Errorf("make request: %w", err)
	}
	response, err := client.Do(req) //nolint:gosec // as above
	if err != nil {
		return answer{}, unanswered(path, err)
	}
	defer func() { _ = response.Body.Close() }() // only read
	var a answer
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&a); err != nil {
		return answer{}, fmt.Errorf("read the agent's answer: %w", err)
	}
	if a.Error != "" {
		return answer{}, errors.New(a.Error)
	}
	return a, nil
}

// unanswered says why the agent does not answer, and what to do.
func unanswered(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no agent answers at %s: it does not run; systemctl status npcnix-reconciler says why, and --root names another root than /", path)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, io.EOF):
		return fmt.Errorf("the agent's socket %s is for root alone", path)
	default:
		return fmt.Errorf("the agent does not answer at %s: %w", path, unwrapped(err))
	}
}

// unwrapped leaves out the URL, which means nothing to anybody.
func unwrapped(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// printAnswer says it to a person.
func printAnswer(w io.Writer, a answer) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	if a.Message != "" {
		line("%s", printable(a.Message))
	}
	if s := a.Suspension; s != nil {
		until := ""
		if !s.Until.IsZero() {
			until = " until " + s.Until.Format(time.RFC3339)
		}
		line("Suspended here%s: %s", until, printable(s.Reason))
	}
	if a.Message != "" {
		return
	}
	if a.Status == nil {
		line("The agent has not looked at anything yet.")
		return
	}
	printStatus(line, a.Status)
}

func printStatus(line func(string, ...any), s *v1alpha1.HostStatus) {
	line("Host:      %s", s.Metadata.Name)
	if r := s.Status.Observed.Remote; r != nil {
		line("Remote:    %s, generation %d %s", printable(r.Name), r.Generation, v1alpha1.ShortRevision(printable(r.Revision)))
	}
	if c := meta.FindCondition(s.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		line("Ready:     %s, %s", c.Status, c.Reason)
		line("           %s", strings.ReplaceAll(printable(c.Message), "\n", "\n           "))
	}
	if text := suspension(s); text != "" {
		line("Suspended: %s", printable(text))
	}
	if w := s.Status.Window; w != nil && w.Reason != window.ReasonAlwaysOpen {
		line("Window:    %s", w)
	}
	if sys := s.Status.System; sys != nil {
		if d := s.Status.Desired; d != nil {
			line("Desired:   %s", orDash(d.Toplevel))
		}
		line("Running:   %s", orDash(sys.Current))
		line("Profile:   %s", orDash(sys.Profile))
		line("Next boot: %s", orDash(sys.BootDefault))
	}
	if a := s.Status.LastAttempt; a != nil {
		line("Attempt:   %s, %s", a.ID, strings.TrimSpace(string(a.Outcome)+" "+a.Reason))
	}
	if t := s.Status.NextAttemptAt; t != nil {
		line("Next:      %s", t.UTC().Format(time.RFC3339))
	}
	for _, warning := range s.Status.Agent.Warnings {
		line("Warning:   %s", printable(warning))
	}
}

// suspension is the sentence on what suspends the host; empty if nothing does.
func suspension(s *v1alpha1.HostStatus) string {
	if !meta.IsTrue(s.Status.Conditions, v1alpha1.ConditionSuspended) {
		return ""
	}
	return meta.FindCondition(s.Status.Conditions, v1alpha1.ConditionSuspended).Message
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return printable(s)
}

// printable leaves out what could move a terminal's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}
