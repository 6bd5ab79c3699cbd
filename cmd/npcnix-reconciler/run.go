package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
	_ "time/tzdata" // windows are judged alike on hosts without zone files

	"github.com/go-logr/logr"

	"github.com/npcnix/npcnix/cmd/exitcode"
	"github.com/npcnix/npcnix/cmd/storeurl"
	"github.com/npcnix/npcnix/cmd/version"
	"github.com/npcnix/npcnix/config"
	"github.com/npcnix/npcnix/nixos/local"
	nixrun "github.com/npcnix/npcnix/nixos/run"
	"github.com/npcnix/npcnix/nixos/systemd"
	"github.com/npcnix/npcnix/reconciler"
	"github.com/npcnix/npcnix/reconciler/host"
	"github.com/npcnix/npcnix/reconciler/redact"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/archive"
)

// options are the command line.
type options struct {
	once, version bool
	root, config  string
	flags         config.ReconcilerConfig
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("npcnix-reconciler", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.BoolVar(&o.once, "once", false, "observe and act until nothing can be done now, write the status, and exit: 0 ready, 3 not ready, 4 waiting for policy")
	f.StringVar(&o.root, "root", "/", "directory that stands for /: profile, /run, /boot and state are below it; only systems marked with the file npcnix-root are activated there")
	f.StringVar(&o.config, "config", "", "configuration file (default /etc/npcnix/reconciler.yaml, NPCNIX_CONFIG)")
	f.StringVar(&o.flags.Store, "store", "", "store URL: s3://bucket/prefix?region=… or file:///path (NPCNIX_STORE)")
	f.StringVar(&o.flags.Host, "host", "", "name under which the host is declared (default: its host name, NPCNIX_HOST)")
	f.StringVar(&o.flags.StateDir, "state-dir", "", "directory of the agent's state (default /var/lib/npcnix below the root, NPCNIX_STATE_DIR)")
	f.StringVar(&o.flags.Log.Format, "log-format", "", "json or console (default json)")
	f.StringVar(&o.flags.Log.Level, "log-level", "", "info or debug (default info)")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
	f.Usage = func() {
		_, _ = fmt.Fprintf(stderr, "Keep this NixOS host at its declared state.\n\nUsage: npcnix-reconciler [flags]\n"+
			"       npcnix-reconciler status|reconcile|retry|resume [-o json]        ask the agent that runs\n"+
			"       npcnix-reconciler suspend [--for 2h] --reason WHY [-o json]\n\n"+
			"SIGTERM ends it; a switch under way goes on, and the next agent or the guard ends it. SIGHUP makes it look now.\n\nFlags:\n")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return o, err //nolint:wrapcheck // printed by the flag set
	}
	if f.NArg() > 0 {
		err := fmt.Errorf("unexpected argument %q; to ask the agent that runs, one of %s comes first", f.Arg(0), strings.Join(verbs(), ", "))
		_, _ = fmt.Fprintln(stderr, "npcnix-reconciler:", err)
		return o, err
	}
	return o, nil
}

// world is what a process has around it.
type world struct {
	getenv         config.Getenv
	now            func() time.Time
	stdout, stderr io.Writer
}

// run is the program without its process.
func run(ctx context.Context, args []string, w world) int {
	if code, handled := verb(ctx, args, w); handled {
		return code
	}
	o, err := parse(args, w.stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitcode.OK
	case err != nil:
		return exitcode.BadUsage
	case o.version:
		_, _ = fmt.Fprintln(w.stdout, version.Long("npcnix-reconciler"))
		return exitcode.OK
	}
	complain := func(code int, err error) int {
		_, _ = fmt.Fprintln(w.stderr, "npcnix-reconciler:", err)
		return code
	}
	if o.root, err = filepath.Abs(o.root); err != nil {
		return complain(exitcode.BadUsage, err)
	}
	c, err := config.LoadReconciler(o.root, o.config, o.flags, w.getenv)
	if err != nil {
		return complain(exitcode.BadUsage, err)
	}
	hidden := redact.New(secrets(os.Environ())...)
	log := newLog(c.Log, w.stderr, hidden)
	r, code, err := w.build(ctx, o.root, c, hidden, log)
	if err != nil {
		return complain(code, err)
	}
	defer func() { _ = r.Close() }() // the process ends anyway
	if o.once {
		return once(ctx, r, c.Host, log)
	}
	if err := serve(ctx, r, c.Host, socketPath(o.root), log); err != nil {
		return complain(exitcode.Internal, err)
	}
	return exitcode.Ready
}

// verb carries out a command line that is no agent's: a person's question to the
// running one, or what the agent starts this program for.
func verb(ctx context.Context, args []string, w world) (code int, handled bool) {
	switch {
	case isVerb(args):
		return ask(ctx, args, w), true
	case len(args) > 0 && args[0] == "guard":
		return guard(ctx, args[1:], w), true
	default:
		return local.Helper(ctx, args, w.getenv)
	}
}

// once makes one pass. A terminal that is closed does not end it in a switch.
func once(ctx context.Context, r *host.Reconciler, name string, log logr.Logger) int {
	signal.Ignore(syscall.SIGHUP)
	var outcome host.Outcome
	_, err := reconciler.Once(ctx, func(ctx context.Context, _ string) (_ reconciler.Result, err error) {
		outcome, err = r.Once(ctx)
		return reconciler.Result{}, err
	}, name)
	if err != nil {
		log.Error(err, "Could not reconcile", "host", name)
	}
	return onceCode(outcome, err)
}

// build wires the reconciler to this machine and its store.
func (w world) build(ctx context.Context, root string, c *config.ReconcilerConfig, hidden *redact.Redactor, log logr.Logger) (*host.Reconciler, int, error) {
	opened, err := storeurl.Open(ctx, c.Store)
	if err != nil {
		return nil, exitcode.BadUsage, fmt.Errorf("open store: %w", err)
	}
	cache := w.getenv("CACHE_DIRECTORY") // systemd's, may name several
	if cache, _, _ = strings.Cut(cache, ":"); cache == "" {
		cache = filepath.Join(c.StateDir, "cache")
	}
	if err := nixrun.AdoptOrphans(); err != nil {
		log.Info("What a build leaves behind may go on", "error", err.Error())
	}
	own, err := local.Executable()
	if err != nil {
		return nil, exitcode.Internal, err
	}
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return nil, exitcode.Internal, fmt.Errorf("make state directory: %w", err)
	}
	machine, err := local.New(ctx, local.Options{
		Root: root, StateDir: c.StateDir, CacheDir: cache, Executable: own,
		Checks: c.HealthChecks.Commands, RemoteChecks: c.HealthChecks.AllowRemote,
	})
	if err != nil {
		return nil, exitcode.BadUsage, err
	}
	limits := archive.DefaultLimits()
	if local.SmallMemory() {
		limits = limits.Small()
	}
	r, err := host.New(ctx, host.Options{
		Host: c.Host, Store: opened, Observer: machine, Builder: machine, Activator: machine,
		Guard: machine, Power: machine, Service: machine, Prober: machine, Checks: c.HealthChecks.Commands, RemoteChecks: c.HealthChecks.AllowRemote, Rand: mathrand.Float64, Redact: hidden,
		Fresh:    func(ctx context.Context) (store.Store, error) { return storeurl.Open(ctx, c.Store) },
		StateDir: c.StateDir, MachineIDFile: filepath.Join(root, "etc/machine-id"), Limits: limits,
		Version: version.String(), Now: w.now, NewID: w.newID, Log: log,
	})
	return r, exitcode.Internal, err
}

// secrets are the values of the variables whose names say that they are.
func secrets(environment []string) (values []string) {
	for _, variable := range environment {
		name, value, _ := strings.Cut(variable, "=")
		if name == "NIX_CONFIG" { // access-tokens = github.com=ghp_… example.org=…
			for _, line := range regexp.MustCompile(`(?m)^\s*(?:extra-)?access-tokens\s*=(.*)$`).FindAllStringSubmatch(value, -1) {
				for word := range strings.FieldsSeq(line[1]) {
					_, token, _ := strings.Cut(word, "=")
					values = append(values, token)
				}
			}
		}
		if regexp.MustCompile(`SECRET|TOKEN|PASSWORD`).MatchString(name) {
			values = append(values, value)
		}
	}
	const short = 8 // a word that stands for something else too
	return slices.DeleteFunc(values, func(v string) bool { return len(v) < short })
}

// newID names an attempt: sortable by time, and unique.
func (w world) newID() string {
	return strings.ToLower(w.now().UTC().Format("20060102t150405") + "-" + rand.Text()[:6])
}

func onceCode(o host.Outcome, err error) int {
	switch {
	case err != nil && o.TargetKnown && o.StoreFailed:
		return exitcode.NotReady
	case err != nil:
		return exitcode.Internal
	case o.Decision.Ready:
		return exitcode.Ready
	case o.Decision.Waiting:
		return exitcode.Waiting
	default:
		return exitcode.NotReady
	}
}

// serve reconciles until ctx ends. SIGHUP, and a person on the control socket,
// make it look now.
func serve(ctx context.Context, r *host.Reconciler, name, socket string, log logr.Logger) error {
	loop, first, err := r.Loop(mathrand.Float64)
	if err != nil {
		return err
	}
	look := func(string) { loop.Add(name) }
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	go func() {
		for {
			select {
			case <-hangup:
				look("hangup")
			case <-ctx.Done():
				return
			}
		}
	}()
	listener, err := listen(ctx, socket)
	if err != nil { // the host is reconciled all the same
		log.Error(err, "Nobody can ask this agent on the host")
	} else {
		go (&control{r: r, now: look, log: log}).serve(ctx, listener)
	}
	feed(ctx, r.Pulse(), log)
	if err := systemd.Ready(); err != nil { // the journal is read; the store may be down
		log.Error(err, "Could not say that the agent is up")
	}
	log.Info("Started", "host", name, "version", version.String(), "firstLookIn", first.String())
	loop.Run(ctx)
	_ = systemd.Stopping() // it ends anyway
	log.Info("Stopped", "host", name)
	return nil
}

// feed keeps the service's watchdog quiet while every step is within its own limit.
func feed(ctx context.Context, pulse *host.Pulse, log logr.Logger) {
	interval, err := systemd.Watchdog()
	if err != nil {
		log.Error(err, "No watchdog")
	}
	if interval <= 0 {
		return
	}
	go func() {
		ticker := time.NewTicker(interval / 3)
		defer ticker.Stop()
		for {
			if step := pulse.Overdue(); step != "" {
				log.Error(nil, "A step takes longer than its limit; the watchdog ends this agent", "step", step)
			} else if err := systemd.Alive(); err != nil {
				log.Error(err, "Could not feed the watchdog")
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	}()
}
