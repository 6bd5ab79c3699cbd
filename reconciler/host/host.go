package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	"github.com/gofrs/flock"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler"
	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/archive"
)

// Heartbeat is how often a status that does not change is put again.
const Heartbeat = 5 * time.Minute

// maxActs bounds the acts of one pass: build, activate and commit, and once
// more for a remote that moved meanwhile.
const maxActs = 8

// Options are what a Reconciler works with. All but Log are required.
type Options struct {
	// Host is the name under which the host is declared and reports.
	Host  string
	Store store.Store
	// The machine's roles.
	Observer  nixos.Observer
	Builder   nixos.Builder
	Activator nixos.Activator
	// StateDir is the agent's own directory; it is created, for root alone.
	StateDir string
	// MachineIDFile identifies the machine, such as /etc/machine-id.
	MachineIDFile string
	// Limits bound archives.
	Limits archive.Limits
	// Version is the agent's own.
	Version string
	// Now and NewID hand in the clock and the names of attempts.
	Now   func() time.Time
	NewID func() string
	Log   logr.Logger
}

func (o Options) validate() error {
	switch {
	case o.Host == "":
		return errors.New("host reconciler needs the host's name")
	case o.Store == nil, o.Observer == nil, o.Builder == nil, o.Activator == nil:
		return errors.New("host reconciler needs a store and a machine")
	case !filepath.IsAbs(o.StateDir):
		return errors.New("host reconciler needs an absolute state directory")
	case o.Now == nil, o.NewID == nil:
		return errors.New("host reconciler needs a clock and a source of names")
	default:
		return nil
	}
}

// Reconciler brings one host to its declared state.
type Reconciler struct {
	opts      Options
	startedAt time.Time
	machineID string

	lock      *flock.Flock
	journal   *journal
	recovered bool
	documents documents
	status    statusWriter
	logged    plan.Decision
	// What does not change while the agent runs.
	nixVersion, bootID string
}

// ErrLocked is returned while another agent works over the same state directory.
var ErrLocked = errors.New("another npcnix-reconciler works in this state directory")

// lockWait is how long New waits for another agent to end.
const lockWait = 5 * time.Second

// New returns the reconciler of opts.Host. It creates the state directory and
// locks it until Close: two agents would undo each other's work.
func New(ctx context.Context, opts Options) (*Reconciler, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opts.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	lock, err := lockState(ctx, opts.StateDir)
	if err != nil {
		return nil, err
	}
	id, err := machineID(opts.MachineIDFile, opts.StateDir)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	r := &Reconciler{opts: opts, lock: lock, startedAt: opts.Now(), machineID: id}
	r.status = statusWriter{store: opts.Store, key: store.StatusKey(opts.Host), machineID: id}
	return r, nil
}

// Close lets another agent work in the state directory.
func (r *Reconciler) Close() error {
	if err := r.lock.Close(); err != nil {
		return fmt.Errorf("unlock state directory: %w", err)
	}
	return nil
}

func lockState(ctx context.Context, dir string) (*flock.Flock, error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	lock := flock.New(filepath.Join(dir, "lock"))
	_, err := lock.TryLockContext(ctx, lockWait/100)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("%w: %s; stop it, or ask it to look now with SIGHUP", ErrLocked, dir)
	case err != nil:
		return nil, fmt.Errorf("lock state directory: %w", err)
	default:
		return lock, nil
	}
}

// Outcome is what a pass came to.
type Outcome struct {
	// TargetKnown says that the declaration and its remote were read.
	TargetKnown bool
	// StoreFailed says that the error, if there is one, is the store's.
	StoreFailed bool
	Decision    plan.Decision
}

// pass is one run through the steps.
type pass struct {
	// asked says that a person waits for the outcome.
	asked     bool
	attempted bool
	machine   nixos.Machine
	// observed says that machine and desired are of this pass.
	observed bool
	desired  *built
	decision plan.Decision
	// decided says that decision is of this pass.
	decided bool
	// progress is what is being done, while it is.
	progress string
	// storeFailed says that the store could not be read or written.
	storeFailed bool
}

// step is one part of a pass. An error ends the pass.
type step struct {
	name string
	// store says that an error is the store's.
	store bool
	run   func(ctx context.Context, p *pass) error
}

func (r *Reconciler) steps() []step {
	return []step{
		{"claim status", true, r.claim},
		{"recover", false, r.recover},
		{"observe spec", true, r.observeSpec},
		{"observe override", true, r.observeOverride},
		{"observe remote", true, r.observeRemote},
		{"plan and act", false, r.planAndAct},
	}
}

// Reconcile is the loop's function: one pass, and the time until the next.
func (r *Reconciler) Reconcile(ctx context.Context, _ string) (reconciler.Result, error) {
	p := &pass{}
	err := r.pass(ctx, p)
	return reconciler.Result{After: r.untilNext(p.decision)}, err
}

// Once makes one pass for a person who waits: it does not observe back-off,
// and tries at most once.
func (r *Reconciler) Once(ctx context.Context) (Outcome, error) {
	p := &pass{asked: true}
	err := r.pass(ctx, p)
	known := r.documents.accepted != nil && r.documents.publication != nil
	return Outcome{TargetKnown: known, StoreFailed: p.storeFailed, Decision: p.decision}, err
}

// pass runs the steps in order and reports whatever they came to.
func (r *Reconciler) pass(ctx context.Context, p *pass) (err error) {
	defer func() {
		reportErr := r.report(context.WithoutCancel(ctx), p)
		p.storeFailed = p.storeFailed || reportErr != nil
		err = errors.Join(err, reportErr)
	}()
	for _, s := range r.steps() {
		if err := s.run(ctx, p); err != nil {
			return r.stepFailed(ctx, p, s, err)
		}
		if p.decided {
			return nil
		}
	}
	return nil
}

// stepFailed turns what stops the agent for good into a decision to report;
// anything else is an error, tried again later.
func (r *Reconciler) stepFailed(ctx context.Context, p *pass, s step, err error) error {
	switch {
	case errors.Is(err, errDuplicateHost):
		p.decide(plan.Decision{Action: plan.None, Reason: v1alpha1.ReasonDuplicateHost, Message: err.Error(), Stalled: true})
	case errors.Is(err, errJournalTooNew):
		p.decide(plan.Decision{Action: plan.None, Reason: v1alpha1.ReasonJournalTooNew, Message: err.Error(), Stalled: true})
	case p.decided || ctx.Err() != nil:
		return fmt.Errorf("%s: %w", s.name, err)
	case s.store:
		p.storeFailed = true
		p.decide(storeProblem(s.name, err))
		return fmt.Errorf("%s: %w", s.name, err)
	default:
		p.decide(plan.Decision{Action: plan.None, Reason: v1alpha1.ReasonInternalError, Message: s.name + ": " + err.Error()})
		return fmt.Errorf("%s: %w", s.name, err)
	}
	r.logDecision(p)
	return nil
}

// storeProblem is what is reported, if it can be, of a store that cannot be
// read. Why is in the log: it names each request anew, and a status must not
// change with mere time.
func storeProblem(step string, err error) plan.Decision {
	d := plan.Decision{Action: plan.None, Reason: v1alpha1.ReasonStoreUnavailable, Message: "The store does not answer: " + step + " failed. The agent's log says why."}
	switch {
	case errors.Is(err, store.ErrAccessDenied):
		d.Reason, d.Message = v1alpha1.ReasonAccessDenied, "The store refuses the host's credentials: "+step+" failed."
	case errors.Is(err, store.ErrBucketNotFound):
		d.Reason, d.Message = v1alpha1.ReasonBucketNotFound, "The store's bucket or directory does not exist."
	}
	return d
}

func (p *pass) decide(d plan.Decision) { p.decision, p.decided = d, true }

// recover reads the journal and closes what a killed agent left open.
func (r *Reconciler) recover(ctx context.Context, _ *pass) error {
	if r.recovered {
		return nil
	}
	j, err := loadJournal(r.opts.StateDir)
	if err != nil {
		return err
	}
	r.journal = j
	if j.open() {
		if err := r.closeInterrupted(ctx); err != nil {
			return err
		}
	}
	r.removeUnnamed()
	r.recovered = true
	return nil
}

// LongestPoll is the greatest time between two looks that the last good
// HostSpec allows.
func (r *Reconciler) LongestPoll() time.Duration {
	spec := v1alpha1.HostSpecSpec{}.WithDefaults("")
	if accepted, err := r.lastGood(); err == nil && accepted != nil {
		spec = accepted.spec
	}
	return spec.PollInterval.Max.Duration
}

// Interrupted reports whether an earlier agent left an attempt open, which is a
// reason to look at once.
func (r *Reconciler) Interrupted() bool {
	j, err := loadJournal(r.opts.StateDir)
	return err == nil && j.open()
}

// closeInterrupted ends an attempt that an earlier agent began. A switch that
// still runs is waited for. If nobody took its result, nothing is known of how
// it ended, so it counts.
func (r *Reconciler) closeInterrupted(ctx context.Context) error {
	j := r.journal
	message := "The agent ended during this attempt, in phase " + string(j.Phase) + "."
	failed := j.Phase == phaseSwitching
	if j.Phase == phaseSwitching || j.Phase == phaseCommitting {
		for _, act := range []nixos.Action{nixos.ActionTest, nixos.ActionBoot} {
			result, err := r.opts.Activator.Await(ctx, runID(j.Attempt.ID, act))
			if err != nil {
				return fmt.Errorf("wait for an earlier agent's switch: %w", err)
			}
			if act == nixos.ActionTest && failed && switched(result) {
				failed = false
				r.activated(j.Attempt.Target, result)
			}
		}
	}
	if failed {
		j.Tries.Counted++
		j.Tries.Failure = &plan.Failure{
			Class: plan.ActivationClass, Reason: v1alpha1.ReasonInterrupted, Message: message,
			NextAt: r.opts.Now(), // the wait is for what fails, not for what was cut off
		}
	}
	j.end(phaseFailed, v1alpha1.OutcomeFailed, v1alpha1.ReasonInterrupted, message, r.opts.Now())
	r.opts.Log.Info("Closed an interrupted attempt", "host", r.opts.Host, "attempt", j.Attempt.ID, "reason", message)
	return saveJournal(r.opts.StateDir, j)
}

// untilNext is when to look again: at the adaptive poll, or earlier where the
// decision changes or a heartbeat is due by itself.
func (r *Reconciler) untilNext(d plan.Decision) time.Duration {
	now := r.opts.Now()
	interval := v1alpha1.HostSpecSpec{}.WithDefaults("").PollInterval
	if a := r.documents.accepted; a != nil {
		interval = a.spec.PollInterval
	}
	next := plan.Poll(interval, now.Sub(r.documents.newest()))
	if !d.NextAt.IsZero() {
		next = min(next, max(d.NextAt.Sub(now), time.Second))
	}
	if d.Reason == v1alpha1.ReasonDuplicateHost {
		return Heartbeat
	}
	return min(next, max(r.status.putAt.Add(Heartbeat).Sub(now), time.Second))
}

// logDecision writes the one line that a pass comes to.
func (r *Reconciler) logDecision(p *pass) {
	target := ""
	if p.desired != nil {
		target = p.desired.Toplevel
	}
	remote, generation := "", int64(0)
	if pub := r.documents.publication; pub != nil {
		remote, generation = pub.Metadata.Name, pub.Metadata.Generation
	}
	log, known := r.opts.Log, p.decision == r.logged
	if known {
		log = log.V(1) // an idle host has nothing new to say
	}
	r.logged = p.decision
	keys := []any{
		"host", r.opts.Host, "remote", remote, "generation", generation, "target", target,
		"action", p.decision.Action, "reason", p.decision.Reason, "message", p.decision.Message,
	}
	if d := p.decision; !known && d.Action == plan.None && !d.Ready && !d.Waiting {
		log.Error(nil, "Decided", keys...) // somebody should be told
		return
	}
	log.Info("Decided", keys...)
}
