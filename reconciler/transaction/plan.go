package transaction

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/health"
	"github.com/npcnix/npcnix/reconciler/statefile"
)

// planVersion is the format of a transaction's files.
const planVersion = 1

// ErrTooNew is returned for a transaction that a newer agent began.
var ErrTooNew = errors.New("the transaction was begun by a newer agent")

// Plan says what a transaction is to do and what to go back to. It never changes.
type Plan struct {
	FormatVersion int       `json:"formatVersion"`
	ID            string    `json:"id"`
	Host          string    `json:"host"`
	CreatedAt     time.Time `json:"createdAt"`
	// Mode is Switch, Test or Boot.
	Mode v1alpha1.Mode `json:"mode"`
	// Target is the toplevel, Activate it or the specialisation of it that is
	// activated.
	Target   string `json:"target"`
	Activate string `json:"activate"`
	// Policy is the digest of the policy and the health checks.
	Policy string `json:"policy"`
	// AgentRemoved says that the target does not start the agent: the guard
	// confirms.
	AgentRemoved bool `json:"agentRemoved,omitempty"`
	// Mend says that the target runs already, and only profile or boot default
	// are to be set.
	Mend bool `json:"mend,omitempty"`

	// Committed says that the target was committed before, and only its boot is
	// to be confirmed.
	Committed bool `json:"committed,omitempty"`

	Recorded Recorded `json:"recorded"`
	// Back is the toplevel that the profile goes back to, where the target was the
	// profile's already; empty where that is the recorded one.
	Back string `json:"back,omitempty"`

	// Retain is how many generations of the profile are kept; 0 keeps all.
	Retain int32 `json:"retain,omitempty"`

	ActivateLimit time.Duration           `json:"activateLimit"`
	ConfirmLimit  time.Duration           `json:"confirmLimit"`
	Rollback      v1alpha1.RollbackPolicy `json:"rollback"`
	HealthChecks  v1alpha1.HealthChecks   `json:"healthChecks"`
	// Checks are the commands that exec checks name, for the guard, which reads
	// no configuration.
	Checks map[string][]string `json:"checks,omitempty"`
	// RemoteChecks lets its http and tcp checks reach other machines.
	RemoteChecks bool `json:"remoteChecks,omitempty"`
}

// Recorded is the machine before the transaction, each fact by itself.
type Recorded struct {
	Running           string          `json:"running"`
	Profile           string          `json:"profile"`
	ProfileGeneration int64           `json:"profileGeneration"`
	BootDefault       string          `json:"bootDefault"`
	BootID            string          `json:"bootID"`
	Units             health.Baseline `json:"units"`
}

// Slack is how long after the limits of activating and confirming the guard acts.
const Slack = time.Minute

// GoesBack is what the profile goes back to; generation is 0 where any will do.
func (p Plan) GoesBack() (profile string, generation int64) {
	if p.Back != "" {
		return p.Back, 0
	}
	return p.Recorded.Profile, p.Recorded.ProfileGeneration
}

// Deadline is the time from arming to the guard's act.
func (p Plan) Deadline() time.Duration { return p.ActivateLimit + p.ConfirmLimit + Slack }

// The names of a transaction's files.
const (
	planFile       = "plan.json"
	lockFile       = "lock"
	problemFile    = "problem.json"
	outcomeFile    = "outcome.json"
	committingFile = "committing"
	committedFile  = "committed"
	rebootingFile  = "rebooting"
	stagedFile     = "staged"
	lastResortFile = "last-resort"
	guardedFile    = "guarded"
)

// Transaction is a transaction on disk.
type Transaction struct {
	Plan Plan
	dir  string
}

// Dir is where the transactions of a state directory are.
func Dir(stateDir, id string) string { return filepath.Join(stateDir, "transactions", id) }

// Create writes the plan into dir.
func Create(dir string, plan Plan) (*Transaction, error) {
	plan.FormatVersion = planVersion
	err := statefile.WriteJSON(filepath.Join(dir, planFile), plan)
	if err == nil { // now, as a full disk must not keep the guard from it
		err = statefile.Write(filepath.Join(dir, lockFile), nil)
	}
	if err == nil {
		err = statefile.Sync(filepath.Dir(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("write plan: %w", err)
	}
	return &Transaction{Plan: plan, dir: dir}, nil
}

// Open reads the transaction in dir.
func Open(dir string) (*Transaction, error) {
	t := &Transaction{dir: dir}
	if err := t.read(planFile, &t.Plan); err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	if t.Plan.FormatVersion > planVersion {
		return nil, fmt.Errorf("%w: %s", ErrTooNew, dir)
	}
	return t, nil
}

// Directory is where the transaction is.
func (t *Transaction) Directory() string { return t.dir }

func (t *Transaction) read(name string, v any) error {
	return statefile.ReadJSON(filepath.Join(t.dir, name), v)
}

// has reports whether a marker is there.
func (t *Transaction) has(name string) bool {
	_, err := os.Lstat(filepath.Join(t.dir, name))
	return err == nil
}

// mark makes a marker.
func (t *Transaction) mark(name string) error {
	if err := statefile.Write(filepath.Join(t.dir, name), nil); err != nil {
		return fmt.Errorf("mark %s: %w", name, err)
	}
	return nil
}

// Problem is why a transaction is taken back.
type Problem struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// StoreLost says that the store could not be reached from the new system.
	StoreLost bool `json:"storeLost,omitempty"`
	// Transient says that it is not the target's fault.
	Transient bool `json:"transient,omitempty"`
	// Units failed that had not failed before.
	Units []string `json:"units,omitempty"`
}

// Blame says why the transaction is to be taken back. The first word counts.
func (t *Transaction) Blame(p Problem) error {
	if _, known := t.Blamed(); known {
		return nil
	}
	if err := statefile.WriteJSON(filepath.Join(t.dir, problemFile), p); err != nil {
		return fmt.Errorf("write problem: %w", err)
	}
	return nil
}

// Blamed returns what Blame wrote.
func (t *Transaction) Blamed() (p Problem, known bool) {
	return p, t.read(problemFile, &p) == nil
}

// Kind is how a transaction ended.
type Kind string

// The kinds of outcomes.
const (
	// Committed: the target runs, is the profile's and the boot default.
	Committed Kind = "Committed"
	// Tested: the target runs and is confirmed; nothing was to be made permanent.
	Tested Kind = "Tested"
	// RolledBack: the recorded system runs again.
	RolledBack Kind = "RolledBack"
	// RollbackFailed: the recorded system could not be brought back.
	RollbackFailed Kind = "RollbackFailed"
	// Superseded: a person switched to something else; nothing was changed.
	Superseded Kind = "Superseded"
	// Kept: the target runs unconfirmed, as the policy says.
	Kept Kind = "Kept"
	// Failed: there was nothing to go back to, or nothing to undo.
	Failed Kind = "Failed"
)

// Outcome is how a transaction ended, and why.
type Outcome struct {
	FormatVersion int       `json:"formatVersion"`
	Kind          Kind      `json:"kind"`
	At            time.Time `json:"at"`
	// By is agent or guard.
	By      string  `json:"by"`
	Problem Problem `json:"problem,omitzero"`
	// Message says how it went.
	Message string `json:"message"`
	// BootDefaultUncertain says that the recorded boot default could not be
	// brought back for sure.
	BootDefaultUncertain bool `json:"bootDefaultUncertain,omitempty"`
	// RebootFrom is the boot that the machine is to leave by a reboot, which
	// whoever finds this asks for again.
	RebootFrom string `json:"rebootFrom,omitempty"`
}

// Outcome returns how the transaction ended. ok is false while it is open.
func (t *Transaction) Outcome() (o Outcome, ok bool, err error) {
	err = t.read(outcomeFile, &o)
	switch {
	case err == nil:
		return o, true, nil
	case errors.Is(err, fs.ErrNotExist):
		return o, false, nil
	default:
		return o, false, fmt.Errorf("read outcome: %w", err)
	}
}

// RunID names a run of stc within the transaction.
func (t *Transaction) RunID(what string) string { return RunID(t.Plan.ID, what) }

// RunID names a run of stc within a transaction.
func RunID(id, what string) string { return id + "-" + what }

// SwitchRun is the run that activates the target.
const SwitchRun = "test"

// Runs reports whether the running system is the target.
func (t *Transaction) Runs(m nixos.Observer, running string) bool {
	return running != "" && (running == t.Plan.Target || running == t.Plan.Activate || m.Specialisation(t.Plan.Target, running) != "")
}
