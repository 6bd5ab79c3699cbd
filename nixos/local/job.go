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
	"strconv"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/nixos/run"
	"github.com/npcnix/npcnix/nixos/systemd"
)

// The verbs by which this program starts itself for a job; see Helper.
const (
	verbExec      = "job-exec"
	verbEnded     = "job-ended"
	verbSupervise = "job-supervise"
)

const (
	// jobVersion is the format of the files of a job.
	jobVersion = 1
	// maxKept bounds the files of a job before they are parsed, in bytes.
	maxKept = 1 << 20
	// superviseSlack is how much longer than a job its supervisor may take.
	superviseSlack = 30 * time.Second
)

// job is a command that outlives this process and is not part of it. Its
// directory holds job.json, what it is; output and errors, what it printed;
// result.json, how it ended, which is written by another process of this very
// program; and, without systemd, process.json, the supervisor.
//
// It is a file, and not the properties of a unit, because everybody may read
// those: an environment can hold secrets.
type job struct {
	FormatVersion int           `json:"formatVersion"`
	Argv          []string      `json:"argv"`
	Env           []string      `json:"env"`
	Dir           string        `json:"dir"`
	Limit         time.Duration `json:"limit"`
	// Spare takes the result where the job's directory has no room for it.
	Spare string `json:"spare"`
	// Apart keeps what it prints on standard error apart from its output.
	Apart bool `json:"apart,omitempty"`
}

// ended is how a job ended.
type ended struct {
	FormatVersion int `json:"formatVersion"`
	// Exited says that it exited by itself, with ExitCode.
	Exited   bool   `json:"exited"`
	ExitCode int    `json:"exitCode"`
	How      string `json:"how,omitempty"`
	// Lost says that nobody knows how it ended.
	Lost bool `json:"lost,omitempty"`
}

// errJobExists is returned for a job whose directory is there already.
var errJobExists = errors.New("there is such a job already")

// startJob starts a job in a unit of its own or, without systemd, under a
// process in a session of its own.
func (m *Machine) startJob(ctx context.Context, dir, unit, description string, j job) error {
	j.FormatVersion, j.Spare = jobVersion, m.spareResult(dir)
	err := makeJob(dir, j)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		dir = m.spareDir(dir)
		err = makeJob(dir, j)
	}
	if err != nil {
		return err
	}
	if m.units != nil {
		return m.units.Start(ctx, systemd.Service{
			Name: unit, Description: description, Limit: j.Limit,
			Argv: []string{m.opts.Executable, verbExec, dir}, Ended: []string{m.opts.Executable, verbEnded, dir},
		})
	}
	process, err := run.Start(run.Command{Path: m.opts.Executable, Args: []string{verbSupervise, dir}, Dir: "/", Leave: true})
	if err != nil {
		return err
	}
	if id, ok := process.Identity(); ok {
		// Without it nobody can wait for the job but by its limit.
		return keep(dir, "process", id)
	}
	return nil
}

// makeJob writes a job into a directory of its own.
func makeJob(dir string, j job) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fmt.Errorf("make directory of jobs: %w", err)
	}
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", errJobExists, dir)
	}
	if err != nil {
		return fmt.Errorf("make job: %w", err)
	}
	if err := keep(dir, "job", j); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	return nil
}

// spareDir is where a job is whose directory has no room: in memory, so that a
// full disk holds up no rollback.
func (m *Machine) spareDir(dir string) string {
	return filepath.Join(m.path("run/npcnix-jobs"), filepath.Base(dir))
}

// spareResult is where the result of a job is for which there was no room.
func (m *Machine) spareResult(dir string) string {
	return filepath.Join(m.path("run/npcnix-jobs"), "result-"+filepath.Base(dir))
}

// placed is where a job is.
func (m *Machine) placed(dir string) string {
	if _, err := os.Stat(m.spareDir(dir)); err == nil {
		return m.spareDir(dir)
	}
	return dir
}

// awaitJob waits until a job has ended. Whose result is lost has one that says so.
func (m *Machine) awaitJob(ctx context.Context, dir, unit string) (ended, error) {
	dir = m.placed(dir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return ended{How: nixos.NeverStarted}, nil
	}
	if m.units != nil {
		if err := m.units.Wait(ctx, unit); err != nil {
			return ended{}, err
		}
	} else if err := awaitSupervisor(ctx, dir); err != nil {
		return ended{}, err
	}
	var result ended
	known, err := kept(dir, "result", &result)
	if err == nil && !known {
		known, err = kept(m.spareResult(dir), "result", &result)
	}
	switch {
	case err != nil:
		return ended{}, err
	case known:
		return result, nil
	}
	if _, err := os.Stat(filepath.Join(dir, "output")); errors.Is(err, fs.ErrNotExist) {
		return ended{How: nixos.NeverStarted}, nil
	}
	return ended{How: "it is gone without a result", Lost: true}, nil
}

// awaitSupervisor waits for the process that waits for a job.
func awaitSupervisor(ctx context.Context, dir string) error {
	var process run.Identity
	known, err := kept(dir, "process", &process)
	if err != nil || !known {
		return err
	}
	var j job
	if _, err := kept(dir, "job", &j); err != nil {
		return err
	}
	if _, err := process.Wait(ctx, j.Limit+superviseSlack); err != nil {
		return fmt.Errorf("wait for the process of %s: %w", dir, err)
	}
	return nil
}

// stopJob stops a job and waits until nothing of it is left.
func (m *Machine) stopJob(ctx context.Context, dir, unit string) error {
	if m.units != nil {
		return m.units.Stop(ctx, unit)
	}
	var process run.Identity
	known, err := kept(m.placed(dir), "process", &process)
	if err != nil || !known {
		return err
	}
	if process.Alive() {
		_ = syscall.Kill(process.PID, syscall.SIGTERM) // its supervisor ends it, and then itself
	}
	if _, err := process.Wait(ctx, superviseSlack); err != nil {
		return fmt.Errorf("stop the process of %s: %w", dir, err)
	}
	return nil
}

// Helper carries out the verbs by which this program starts itself. handled
// says that args are one of them; code is the exit code then.
func Helper(ctx context.Context, args []string, getenv func(string) string) (code int, handled bool) {
	if len(args) != 2 {
		return 0, false
	}
	var err error
	switch verb, dir := args[0], args[1]; verb {
	case verbExec:
		err = execJob(dir)
	case verbEnded:
		err = endedJob(dir, getenv)
	case verbSupervise:
		err = superviseJob(ctx, dir)
	default:
		return 0, false
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "npcnix-reconciler:", err)
		return 1, true
	}
	return 0, true
}

// printTo opens the file that takes a job's output.
func printTo(dir, name string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open %s of job: %w", name, err)
	}
	return f, nil
}

// outputs opens what a job prints to.
func (j job) outputs(dir string) (stdout, stderr *os.File, err error) {
	if stdout, err = printTo(dir, "output"); err != nil || !j.Apart {
		return stdout, stdout, err
	}
	stderr, err = printTo(dir, "errors")
	return stdout, stderr, err
}

// execJob becomes the job.
func execJob(dir string) error {
	var j job
	if known, err := kept(dir, "job", &j); err != nil || !known {
		return fmt.Errorf("no job in %s: %w", dir, err)
	}
	stdout, stderr, err := j.outputs(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Dup3(int(stdout.Fd()), 1, 0), unix.Dup3(int(stderr.Fd()), 2, 0)); err != nil {
		return fmt.Errorf("redirect output: %w", err)
	}
	if err := os.Chdir(j.Dir); err != nil {
		return fmt.Errorf("go to %s: %w", j.Dir, err)
	}
	return run.Exec(j.Argv, j.Env)
}

// endedJob writes how the job ended, as systemd tells its ExecStopPost=.
// Source: systemd.exec(5), $SERVICE_RESULT. A service that was stopped has the
// result success there, so the exit code alone counts.
func endedJob(dir string, getenv func(string) string) error {
	result := ended{FormatVersion: jobVersion, ExitCode: -1}
	code, err := strconv.Atoi(getenv("EXIT_STATUS"))
	switch why := getenv("SERVICE_RESULT"); {
	case getenv("EXIT_CODE") == "exited" && err == nil && (why == "success" || why == "exit-code"):
		result.Exited, result.ExitCode = true, code
	case why == "timeout":
		result.How = "it was stopped at its time limit"
	case getenv("EXIT_CODE") == "":
		result.How = "it could not be started"
	default:
		result.How = "it was ended by signal " + getenv("EXIT_STATUS")
	}
	return keepResult(dir, result)
}

// keepResult writes how a job ended, elsewhere if its directory has no room.
func keepResult(dir string, result ended) error {
	err := keep(dir, "result", result)
	var j job
	if known, jobErr := kept(dir, "job", &j); err == nil || jobErr != nil || !known || j.Spare == "" {
		return err
	}
	if spareErr := os.MkdirAll(j.Spare, 0o700); spareErr != nil {
		return errors.Join(err, spareErr)
	}
	return keep(j.Spare, "result", result)
}

// superviseJob runs the job as its child and writes how it ended.
func superviseJob(ctx context.Context, dir string) error {
	var j job
	if known, err := kept(dir, "job", &j); err != nil || !known {
		return fmt.Errorf("no job in %s: %w", dir, err)
	}
	stdout, stderr, err := j.outputs(dir)
	if err != nil {
		return err
	}
	defer func() { _, _ = stdout.Close(), stderr.Close() }() // the job wrote, not this process
	result := ended{FormatVersion: jobVersion, ExitCode: -1}
	process, err := run.Start(run.Command{
		Path: j.Argv[0], Args: j.Argv[1:], Env: j.Env, Dir: j.Dir, Limit: j.Limit, Output: stdout, Errors: stderr, Leave: true,
	})
	if err != nil {
		result.How = "it could not be started: " + err.Error()
		return keepResult(dir, result)
	}
	got, err := process.Wait(ctx)
	switch {
	case errors.Is(err, run.ErrLimit):
		result.How = "it was stopped at its time limit"
	case err != nil:
		result.How = "it was stopped: " + err.Error()
	case got.Signal != "":
		result.How = "it was ended by signal: " + got.Signal
	default:
		result.Exited, result.ExitCode = true, got.ExitCode
	}
	return keepResult(dir, result)
}

// keep writes a file of a job.
func keep(dir, name string, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		err = renameio.WriteFile(filepath.Join(dir, name+".json"), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep %s of job: %w", name, err)
	}
	return nil
}

// kept reads a file of a job. One that is not there, or that makes no sense, is none.
func kept(dir, name string, v any) (ok bool, err error) {
	f, err := os.Open(filepath.Join(dir, name+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s of job: %w", name, err)
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxKept))
	if err != nil {
		return false, fmt.Errorf("read %s of job: %w", name, err)
	}
	return json.Unmarshal(data, v) == nil, nil
}

// tail returns the end of a file, at most limit bytes of it; what cannot be
// read is not shown.
func tail(path string, limit int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // only read
	if info, err := f.Stat(); err == nil && info.Size() > limit {
		_, _ = f.Seek(-limit, io.SeekEnd) // else the beginning is shown
	}
	data, _ := io.ReadAll(io.LimitReader(f, limit)) // what can be read is shown
	return data
}
