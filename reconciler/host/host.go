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
	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/reconciler/redact"
	"github.com/npcnix/npcnix/reconciler/transaction"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/archive"
)

// Heartbeat is how often a status that does not change is put again.
const Heartbeat = 5 * time.Minute

// Options are what a Reconciler works with. All but Log are required.
type Options struct {
	// Host is the name under which the host is declared and reports.
	Host  string
	Store store.Store
	// The machine's roles.
	Observer  nixos.Observer
	Builder   nixos.Builder
	Activator nixos.Activator
	Guard     nixos.Guard
	Power     nixos.Power
	Service   nixos.Service
	Prober    nixos.Prober
	// Fresh opens the store over connections of its own.
	Fresh func(ctx context.Context) (store.Store, error)
	// Checks are the commands that exec checks name, for the guard.
	Checks map[string][]string
	// RemoteChecks lets the guard's http and tcp checks reach other machines.
	RemoteChecks bool
	// Redact leaves out of statuses and logs what must not leave the host.
	Redact *redact.Redactor
	// Rand returns a number in [0, 1).
	Rand func() float64
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
	case o.Store == nil, o.Fresh == nil, o.Observer == nil, o.Builder == nil, o.Activator == nil,
		o.Guard == nil, o.Power == nil, o.Service == nil, o.Prober == nil, o.Redact == nil:
		return errors.New("host reconciler needs a store and a machine")
	case !filepath.IsAbs(o.StateDir):
		return errors.New("host reconciler needs an absolute state directory")
	case o.Now == nil, o.NewID == nil, o.Rand == nil:
		return errors.New("host reconciler needs a clock, a source of names and one of randomness")
	default:
		return nil
	}
}

// roles are what a transaction and health checks act on.
type roles struct {
	nixos.Observer
	nixos.Activator
	nixos.Power
	nixos.Prober
}

var _ transaction.Machine = roles{}

func (o Options) machine() roles { return roles{o.Observer, o.Activator, o.Power, o.Prober} }

// Reconciler brings one host to its declared state.
type Reconciler struct {
	opts      Options
	startedAt time.Time
	machineID string

	lock      *flock.Flock
	journal   *journal
	unsaved   bool // the journal could not be saved as it is
	recovered bool
	documents documents
	status    statusWriter
	logged    plan.Decision
	// unreported is what the last report came to, if it failed.
	unreported unreported
	// What does not change while the agent runs.
	nixVersion, bootID string
	warnings           []string
	// startFailed is why the newest switch could not be started.
	startFailed error
	// began is the transaction whose switch this process saw under way.
	began string
	// checked is what the last health checks of what runs came to.
	checked  checked
	pulse    *Pulse
	judged   judged
	requests requests
	logState
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
	r := &Reconciler{opts: opts, lock: lock, startedAt: opts.Now(), pulse: &Pulse{}, warnings: opts.Service.Warnings(ctx)}
	for _, warning := range r.warnings {
		opts.Log.Info("This host is less safe than it could be", "host", opts.Host, "warning", warning)
	}
	if err := r.loadState(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	r.status = statusWriter{store: opts.Store, key: store.StatusKey(opts.Host), machineID: r.machineID}
	return r, nil
}

// loadState reads what earlier agents left, so that a host that starts without
// the network knows its state. A journal that cannot be read is a pass's to report.
func (r *Reconciler) loadState() (err error) {
	if err := removeTemporaries(journalPath(r.opts.StateDir), r.ownMachineID(), r.savedSpec(), r.savedOverride(), r.savedRemote(), r.suspensionFile(), r.requestFile()); err != nil {
		return err
	}
	if r.machineID, err = r.loadMachineID(); err != nil {
		return err
	}
	if r.journal, err = r.loadJournal(); err != nil {
		r.opts.Log.Error(err, "Could not read the journal", "host", r.opts.Host)
	}
	if err := r.loadSuspension(); err != nil {
		r.opts.Log.Error(err, "Could not read the local suspension", "host", r.opts.Host)
	}
	if err := r.loadRequest(); err != nil {
		r.opts.Log.Error(err, "Could not read what was asked for", "host", r.opts.Host)
	}
	if err := r.loadDocuments(); err != nil { // the store has the truth
		r.opts.Log.Error(err, "Could not read the last good documents", "host", r.opts.Host)
	}
	return nil
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

// interval is how often the store is looked at, as the last good HostSpec says.
func (r *Reconciler) interval() *v1alpha1.PollInterval {
	if a := r.documents.accepted; a != nil {
		return a.spec.PollInterval
	}
	return v1alpha1.HostSpecSpec{}.WithDefaults("").PollInterval
}
