package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/cmd/exitcode"
	"github.com/npcnix/npcnix/cmd/storeurl"
	"github.com/npcnix/npcnix/cmd/version"
	"github.com/npcnix/npcnix/config"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/archive"
)

// cli is what the commands share: the world around the process.
type cli struct {
	in       io.Reader
	out, err io.Writer
	getenv   config.Getenv
	now      func() time.Time
	// terminal says that out is one: tables are aligned then.
	terminal bool

	flags config.ClientFlags
	// started says that the command line was understood.
	started bool
}

// Classes of errors beyond those of the packages below; each has an exit code.
var (
	errUsage    = errors.New("usage")
	errRefused  = errors.New("refused")
	errNotFound = errors.New("not found")
)

// run runs one command line and returns the exit code.
func (c *cli) run(ctx context.Context, args []string) int {
	root := c.command()
	root.SetArgs(args)
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(c.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitcode.OK
	}
	_, _ = fmt.Fprintln(c.err, "npcnix:", printable(err.Error()))
	return c.code(err)
}

func (c *cli) code(err error) int {
	var invalid *codec.InvalidError
	switch {
	case !c.started, errors.Is(err, errUsage):
		return exitcode.Usage
	case errors.As(err, &invalid), errors.Is(err, errRefused), errors.Is(err, codec.ErrTooLarge),
		errors.Is(err, archive.ErrRefused), errors.Is(err, archive.ErrInvalid):
		return exitcode.Refused
	case errors.Is(err, store.ErrNotFound), errors.Is(err, errNotFound):
		return exitcode.NotFound
	case errors.Is(err, store.ErrConflict):
		return exitcode.Conflict
	case errors.Is(err, errNotReady):
		return exitcode.HostsNotReady
	default:
		return exitcode.Failed
	}
}

func (c *cli) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "npcnix",
		Short: "Keep fleets of NixOS machines at their declared state",
		Long: "npcnix publishes packed flakes to an object store, declares there what each host\n" +
			"shall run, and shows what the hosts say. npcnix-reconciler on each host does the rest.",
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	f := root.PersistentFlags()
	f.StringVar(&c.flags.Store, "store", "", "store URL: s3://bucket/prefix?region=… or file:///path (NPCNIX_STORE)")
	f.StringVar(&c.flags.Context, "context", "", "name of a store in the configuration file (NPCNIX_CONTEXT)")
	f.StringVar(&c.flags.Config, "config", "", "configuration file (default ~/.config/npcnix/config.yaml)")
	root.Version = version.String()
	root.SetVersionTemplate("npcnix {{.Version}}\n")
	root.AddCommand(
		c.packCommand(), c.pushCommand(), c.pullCommand(), c.applyCommand(), c.validateCommand(),
		c.getCommand(), c.describeCommand(), c.logsCommand(), c.windowCommand(),
		c.suspendCommand(), c.resumeCommand(), c.reconcileCommand(), c.deleteCommand(), c.versionCommand(),
	)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if strings.Contains(err.Error(), "invalid duration") || strings.Contains(err.Error(), "in duration") {
			return fmt.Errorf("%w: a duration is such as 90m or 48h", err)
		}
		return err
	})
	c.noteStart(root)
	return root
}

// exactly returns a check for commands that take one argument of a name, or
// none if it is empty.
func exactly(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case what == "" && len(args) > 0:
			return fmt.Errorf("%s: unexpected argument %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
		case what != "" && len(args) != 1:
			return fmt.Errorf("%s: expected one %s, found %d", cmd.CommandPath(), what, len(args))
		default:
			return nil
		}
	}
}

// group returns a command that only holds others. Without one of them it is an
// error, not a page of help that a script takes for success.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	names := make([]string, len(commands))
	for i, child := range commands {
		names[i] = child.Name()
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.ArbitraryArgs,
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("%w: npcnix %s: expected %s", errUsage, use, strings.Join(names, " or "))
		}
		kind, _, named := strings.Cut(args[0], "/") // as hosts and remotes are printed
		for _, child := range commands {
			if named && (child.Name() == kind || child.HasAlias(kind)) {
				names := namesOf(kind, args)
				if err := child.ValidateArgs(names); err != nil {
					return fmt.Errorf("%w: %w", errUsage, err)
				}
				child.SetContext(cmd.Context())
				return child.RunE(child, names)
			}
		}
		return fmt.Errorf("%w: npcnix %s: expected %s, as in npcnix %s %s %s", errUsage, use, strings.Join(names, " or "), use, names[0], args[0])
	}
	cmd.AddCommand(commands...)
	return cmd
}

// noteStart lets every command below cmd tell that its command line was
// understood: what fails before is a matter of usage.
func (c *cli) noteStart(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			c.started = true
			return run(cmd, args)
		}
	}
	for _, child := range cmd.Commands() {
		c.noteStart(child)
	}
}

// open opens the store that flags, environment or configuration name.
func (c *cli) open(ctx context.Context) (store.Store, error) { //nolint:ireturn // which one is the point
	url, err := config.LoadStore(c.flags, c.getenv)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	s, err := storeurl.Open(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return s, nil
}

// note tells the person something that is no result.
func (c *cli) note(format string, args ...any) {
	_, _ = fmt.Fprintln(c.err, "npcnix: note:", printable(fmt.Sprintf(format, args...)))
}

func (c *cli) print(format string, args ...any) error {
	_, err := fmt.Fprintln(c.out, printable(fmt.Sprintf(format, args...)))
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  exactly(""),
		RunE:  func(*cobra.Command, []string) error { return c.print("%s", version.Long("npcnix")) },
	}
}

// printable replaces what could make a terminal do something: statuses and
// files are other people's words.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if (r < ' ' && r != '\n' && r != '\t') || (r >= 0x7f && r < 0xa0) || r == '\u2028' || r == '\u2029' || (r >= '\u202a' && r <= '\u202e') || (r >= '\u2066' && r <= '\u2069') {
			return '\ufffd'
		}
		return r
	}, s)
}
