package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// defaultGrace is the time between the polite and the final signal.
const defaultGrace = 10 * time.Second

// pipeDelay is how long a descendant may hold the output after the process ended.
const pipeDelay = 2 * time.Second

// Bounds of what is kept of a command's output, in bytes.
const (
	maxStdout = 4 << 20
	maxStderr = 64 << 10
)

// Errors of commands that did not exit by themselves.
var (
	// ErrLimit: the command ran into its limit.
	ErrLimit = errors.New("time limit reached")
	// ErrOutput: the command printed more than MaxStdout.
	ErrOutput = errors.New("too much output")
	// ErrNotFound: there is no such program in PATH.
	ErrNotFound = exec.ErrNotFound
)

// Command is a program with its arguments.
type Command struct {
	// Path is a file, or a name that is searched in this process's PATH.
	Path string
	Args []string
	// Env is the whole environment; Environ selects one.
	Env []string
	Dir string
	// Limit bounds the run; 0 leaves that to the context.
	Limit time.Duration
	// Grace is the time between SIGTERM and SIGKILL when the command is
	// stopped; 0 is 10 s.
	Grace time.Duration
	// MaxStdout bounds what is kept of the standard output, in bytes; 0 is 4 MiB.
	// A command that prints more is stopped.
	MaxStdout int
	// Output, if set, takes what the command prints instead of Result; Errors,
	// if set too, what it prints on its standard error.
	Output, Errors *os.File
	// Leave lets what the command leaves behind go on after it has exited.
	Leave bool
}

// Result is how a command ended.
type Result struct {
	// ExitCode is -1 if the command was ended by a signal.
	ExitCode int
	// Signal is the signal's name then.
	Signal string
	Stdout []byte
	// Stderr is its end, at most 64 KiB.
	Stderr []byte
}

// Run runs the command to its end. A command that exits, whatever its code, is
// no error; one that cannot be started, is cancelled or stopped is.
func Run(ctx context.Context, c Command) (Result, error) {
	p, err := Start(c)
	if err != nil {
		return Result{}, err
	}
	return p.Wait(ctx)
}

// Process is a command that was started.
type Process struct {
	name  string
	limit time.Duration
	grace time.Duration
	// before are the processes that were there before it.
	before map[Identity]bool
	cmd    *exec.Cmd
	stdout *head
	stderr *tail
	done   chan struct{}
	err    error // of Wait, once done is closed
}

// busyTries and busyPause bound the wait for a program that was written just
// now: until another child of this process has begun its own program, it holds
// the file open for writing, too.
const (
	busyTries = 20
	busyPause = 50 * time.Millisecond
)

// Start starts the command. Its limit counts from Wait.
func Start(c Command) (p *Process, err error) {
	for range busyTries {
		if p, err = start(c); !errors.Is(err, syscall.ETXTBSY) {
			return p, err
		}
		time.Sleep(busyPause)
	}
	return p, err
}

func start(c Command) (*Process, error) {
	p := &Process{
		name: c.Path, limit: c.Limit, grace: cmp.Or(c.Grace, defaultGrace), done: make(chan struct{}),
		stdout: &head{limit: cmp.Or(c.MaxStdout, maxStdout)}, stderr: &tail{limit: maxStderr},
	}
	p.cmd = exec.Command(c.Path, c.Args...) //nolint:gosec,noctx // an argument vector; Wait takes the context
	p.cmd.Env = c.Env
	if c.Env == nil {
		p.cmd.Env = []string{}
	}
	p.cmd.Dir = c.Dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // its own session and group
	pipes, err := p.connect(c.Output, c.Errors)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	if c.Leave {
		if err := leave(1); err != nil {
			return nil, errors.Join(fmt.Errorf("start %s: %w", c.Path, err), pipes.close())
		}
	}
	p.before = family()
	if err := launch(p.cmd); err != nil {
		if c.Leave {
			err = errors.Join(err, leave(-1))
		}
		return nil, errors.Join(fmt.Errorf("start %s: %w", c.Path, err), pipes.close())
	}
	pid := p.cmd.Process.Pid
	pipes.drain()
	go func() {
		p.err = p.cmd.Wait()
		ended(pid)
		if c.Leave {
			p.err = errors.Join(p.err, leave(-1))
		} else {
			sweep(nil, p.before)
		}
		pipes.finish(pipeDelay)
		close(p.done)
	}()
	return p, nil
}

// connect gives the command its outputs.
func (p *Process) connect(output, errs *os.File) (*pipes, error) {
	if output != nil {
		p.cmd.Stdout, p.cmd.Stderr = output, cmp.Or(errs, output)
		return &pipes{}, nil
	}
	pipes := &pipes{}
	stdout, err := pipes.add(p.stdout)
	if err != nil {
		return nil, err
	}
	stderr, err := pipes.add(p.stderr)
	if err != nil {
		return nil, errors.Join(err, pipes.close())
	}
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	return pipes, nil
}

// Wait waits for the end. When ctx ends, the limit is reached, or the output
// grows too long, it stops the process and its descendants first.
func (p *Process) Wait(ctx context.Context) (Result, error) {
	var limit <-chan time.Time
	if p.limit > 0 {
		timer := time.NewTimer(p.limit)
		defer timer.Stop()
		limit = timer.C
	}
	var why error
	select {
	case <-p.done:
	case <-ctx.Done():
		why = context.Cause(ctx)
	case <-limit:
		why = fmt.Errorf("%w: %s", ErrLimit, p.limit)
	case <-p.stdout.overflow():
		why = ErrOutput
	}
	if why == nil && p.stdout.overflowed() { // it ended while it printed too much
		why = ErrOutput
	}
	if why != nil {
		p.stop()
		return p.result(), fmt.Errorf("%s: %w", p.name, why)
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		return p.result(), fmt.Errorf("%s: %w", p.name, p.err)
	}
	return p.result(), nil
}

func (p *Process) result() Result {
	if p.cmd.ProcessState == nil { // it could not even be waited for
		return Result{ExitCode: -1, Stdout: p.stdout.bytes(), Stderr: p.stderr.bytes()}
	}
	r := Result{ExitCode: p.cmd.ProcessState.ExitCode(), Stdout: p.stdout.bytes(), Stderr: p.stderr.bytes()}
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		r.Signal = status.Signal().String()
	}
	return r
}

// stop ends the process: SIGTERM to its group, after its grace SIGKILL, and SIGKILL
// to every descendant that has gone into a group of its own, as Nix's builders do.
func (p *Process) stop() {
	members := descendants(p.cmd.Process.Pid)
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM) // it may just have ended
	timer := time.NewTimer(p.grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		members = append(members, descendants(p.cmd.Process.Pid)...)
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // what is left of the group
	sweep(members, p.before)
	<-p.done
}

// Environ returns those of the named variables that this process has, and the
// given assignments after them.
func Environ(names []string, assignments ...string) []string {
	env := []string{}
	for _, name := range names {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return append(env, assignments...)
}

// LookPath returns the file that a command names, as Start finds it.
func LookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("find program: %w", err)
	}
	return path, nil
}

// Exec becomes another program. It returns only if it cannot.
func Exec(argv, env []string) error {
	path, err := LookPath(argv[0])
	if err != nil {
		return err
	}
	return fmt.Errorf("become %s: %w", path, syscall.Exec(path, argv, env)) //nolint:gosec // an argument vector
}
