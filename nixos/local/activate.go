package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/nixos/run"
)

const (
	// marker is the file of a toplevel that may be activated below another root.
	marker = "npcnix-root"
	// maxOutput bounds the end of stc's output that is kept, in bytes.
	maxOutput = 16 << 10
	// maxKept bounds the files of a run, in bytes.
	maxKept   = 1 << 20
	lockRetry = 50 * time.Millisecond
	// unknownLimit bounds the wait for a run whose process nobody recorded; it
	// is the default of timeouts.activate.
	unknownLimit = 10 * time.Minute
)

// runs knows the runs of stc that this process started.
type runs struct {
	mu   sync.Mutex
	ours map[string]*activation
}

type activation struct {
	process *run.Process
	output  *os.File
}

// Check looks for the marker below another root; the real one needs none.
func (m *Machine) Check(_ context.Context, toplevel string) error {
	if !m.rooted() {
		return nil
	}
	_, err := os.Stat(filepath.Join(toplevel, marker))
	if errors.Is(err, fs.ErrNotExist) {
		return nixos.ErrRootNotSupported
	}
	if err != nil {
		return fmt.Errorf("look for the marker: %w", err)
	}
	return nil
}

// dir is where a run's files are: lock, held by stc and what it started as long
// as they live; process, which names stc itself; output; result, written by the
// agent that saw it end.
func (m *Machine) dir(id string) string { return filepath.Join(m.opts.StateDir, "activations", id) }

// Start starts stc in a session of its own, so that it outlives this process.
func (m *Machine) Start(ctx context.Context, a nixos.Activation) error {
	if err := m.Check(ctx, a.Toplevel); err != nil {
		return err
	}
	dir := m.dir(a.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("start %s: %w", a.Action, err)
	}
	output, err := os.OpenFile(filepath.Join(dir, "output"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", a.Action, err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", a.Action, err), output.Close())
	}
	defer func() { _ = lock.Close() }() // stc holds it now, or nobody
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("start %s: run %s is under way already: %w", a.Action, a.ID, err), output.Close())
	}
	process, err := run.Start(run.Command{
		Path: filepath.Join(a.Toplevel, "bin", "switch-to-configuration"), Args: []string{string(a.Action)},
		Env: m.activationEnv(), Dir: "/", Limit: a.Limit, Output: output, Leave: true, Inherit: []*os.File{lock},
	})
	if err != nil {
		return errors.Join(err, output.Close())
	}
	m.runs.mu.Lock()
	m.runs.ours[a.ID] = &activation{process: process, output: output}
	m.runs.mu.Unlock()
	if id, ok := process.Identity(); ok {
		// Without it an agent after this one waits for the lock instead.
		_ = m.keep(a.ID, "process", started{Identity: id, Limit: a.Limit})
	}
	return nil
}

// started is what an agent after this one needs to wait for a run.
type started struct {
	run.Identity

	Limit time.Duration `json:"limit"`
}

// keep writes a file of a run.
func (m *Machine) keep(id, name string, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		err = renameio.WriteFile(filepath.Join(m.dir(id), name), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep %s of run %s: %w", name, id, err)
	}
	return nil
}

// kept reads a file of a run. One that is not there, or that makes no sense, is
// none: then the run's lock says whether it is over.
func (m *Machine) kept(id, name string, v any) (ok bool, err error) {
	f, err := os.Open(filepath.Join(m.dir(id), name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s of run %s: %w", name, id, err)
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxKept))
	if err != nil {
		return false, fmt.Errorf("read %s of run %s: %w", name, id, err)
	}
	return json.Unmarshal(data, v) == nil, nil
}

func (m *Machine) activationEnv() []string {
	env := run.Environ([]string{"PATH", "LANG", "LOCALE_ARCHIVE"})
	if m.rooted() {
		env = append(env, "NPCNIX_ROOT="+m.opts.Root)
	}
	return env
}

// Await waits for a run of this process, or for one that an earlier agent left.
func (m *Machine) Await(ctx context.Context, id string) (nixos.Result, error) {
	m.runs.mu.Lock()
	a := m.runs.ours[id]
	delete(m.runs.ours, id)
	m.runs.mu.Unlock()
	if a == nil {
		return m.awaitForeign(ctx, id)
	}
	ended, err := a.process.Wait(ctx)
	result := nixos.Result{Exited: err == nil && ended.Signal == "", ExitCode: ended.ExitCode}
	switch {
	case err != nil:
		result.How = err.Error()
	case ended.Signal != "":
		result.How = "ended by signal: " + ended.Signal
	}
	if closeErr := a.output.Close(); closeErr != nil {
		return result, fmt.Errorf("close output of stc: %w", closeErr)
	}
	return m.finish(id, result)
}

// finish keeps the result, for an agent that is started after this one was
// killed, and adds the end of the output.
func (m *Machine) finish(id string, result nixos.Result) (nixos.Result, error) {
	result.Output = m.outputTail(id)
	// If it cannot be kept, an agent after this one will not know; this one does.
	_ = m.keep(id, "result", result)
	return result, nil
}

// awaitForeign waits for a run of an earlier agent, no longer than its limit.
func (m *Machine) awaitForeign(ctx context.Context, id string) (nixos.Result, error) {
	dir := m.dir(id)
	if _, err := os.Stat(filepath.Join(dir, "lock")); errors.Is(err, fs.ErrNotExist) {
		return nixos.Result{How: "never started"}, nil
	}
	how := "ended while no agent was there to take its result"
	var process started
	known, err := m.kept(id, "process", &process)
	switch {
	case err != nil:
		return nixos.Result{}, err
	case known:
		stopped, err := process.Wait(ctx, process.Limit)
		if err != nil {
			return nixos.Result{}, fmt.Errorf("wait for run %s of an earlier agent: %w", id, err)
		}
		if stopped {
			how = "stopped after its time limit, " + process.Limit.String()
		}
	default: // that agent was killed at the very start
		lock := flock.New(filepath.Join(dir, "lock"))
		limited, cancel := context.WithTimeout(ctx, unknownLimit)
		defer cancel()
		if _, err := lock.TryLockContext(limited, lockRetry); err != nil && ctx.Err() != nil {
			return nixos.Result{}, fmt.Errorf("wait for run %s of an earlier agent: %w", id, err)
		}
		_ = lock.Close() // the run is over, or only what it left behind holds the lock
	}
	var result nixos.Result
	if known, err = m.kept(id, "result", &result); !known {
		result = nixos.Result{How: how, Output: m.outputTail(id)}
	}
	return result, err
}

func (m *Machine) outputTail(id string) string {
	f, err := os.Open(filepath.Join(m.dir(id), "output"))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read
	if info, err := f.Stat(); err == nil && info.Size() > maxOutput {
		_, _ = f.Seek(-maxOutput, io.SeekEnd) // else the beginning is shown
	}
	data, _ := io.ReadAll(io.LimitReader(f, maxOutput)) // what can be read is shown
	return plain(string(data))
}
