package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/statefile"
)

// requests are what a person on the host asked for. Another goroutine than the
// loop's writes them.
type requests struct {
	mu               sync.Mutex
	reconcile, retry bool
	suspension       *Suspension
	status           *v1alpha1.HostStatus
}

// Suspension is a suspension by a person on the host, kept over restarts.
type Suspension struct {
	FormatVersion int       `json:"formatVersion"`
	Reason        string    `json:"reason"`
	Since         time.Time `json:"since"`
	// Until ends it by itself; zero: until it is lifted.
	Until time.Time `json:"until,omitzero"`
}

// suspensionVersion is the format of what is kept of suspensions and requests.
const suspensionVersion = 1

// asked is a request of a person on the host that was not taken up, kept over
// restarts: it is often made while a switch is under way that restarts the agent.
type asked struct {
	FormatVersion int  `json:"formatVersion"`
	Retry         bool `json:"retry"`
}

func (r *Reconciler) requestFile() string {
	return filepath.Join(r.opts.StateDir, "request.json")
}

// loadRequest reads what Ask wrote. Of one that cannot be read a look at once is
// all that is known.
func (r *Reconciler) loadRequest() error {
	a := asked{}
	err := statefile.ReadJSON(r.requestFile(), &a)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	r.requests.put(a.Retry)
	if err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	return nil
}

func (r *Reconciler) suspensionFile() string {
	return filepath.Join(r.opts.StateDir, "suspension.json")
}

// loadSuspension reads what Suspend wrote. One that cannot be read suspends:
// that somebody wanted it is all that is known.
func (r *Reconciler) loadSuspension() error {
	s := &Suspension{}
	err := statefile.ReadJSON(r.suspensionFile(), s)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		r.requests.suspension = &Suspension{Reason: "the local suspension cannot be read; npcnix-reconciler resume lifts it"}
		return fmt.Errorf("read local suspension: %w", err)
	}
	r.requests.suspension = s
	return nil
}

// Suspend stops new action on this host, whatever its documents say.
func (r *Reconciler) Suspend(reason string, length time.Duration) (Suspension, error) {
	q := &r.requests
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Suspension{FormatVersion: suspensionVersion, Reason: reason, Since: r.opts.Now().UTC()}
	if length > 0 {
		s.Until = s.Since.Add(length)
	}
	if err := statefile.WriteJSON(r.suspensionFile(), s); err != nil {
		return s, fmt.Errorf("keep suspension: %w", err)
	}
	q.suspension = &s
	return s, nil
}

// Resume lifts what Suspend did. was says whether there was something to lift.
func (r *Reconciler) Resume() (was bool, err error) {
	q := &r.requests
	q.mu.Lock()
	defer q.mu.Unlock()
	err = os.Remove(r.suspensionFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true, fmt.Errorf("lift suspension: %w", err)
	}
	was = q.suspension != nil
	q.suspension = nil
	return was, nil
}

// Suspended returns what Suspend did, nil if it was lifted or has ended.
func (r *Reconciler) Suspended() *Suspension {
	r.requests.mu.Lock()
	defer r.requests.mu.Unlock()
	s := r.requests.suspension
	if s == nil || (!s.Until.IsZero() && !r.opts.Now().Before(s.Until) && !r.skewed()) {
		return nil
	}
	return s
}

// Ask makes the next look one for a person who waits: back-off is not observed.
// retry also lifts quarantine, and whatever else waits for an operator's word.
func (r *Reconciler) Ask(retry bool) {
	q := &r.requests
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reconcile, q.retry = true, q.retry || retry
	if err := statefile.WriteJSON(r.requestFile(), asked{suspensionVersion, q.retry}); err != nil { // it counts all the same
		r.opts.Log.Error(err, "Could not keep a request over a restart", "host", r.opts.Host)
	}
}

// Status is the status as the last look left it, whether or not it could be
// written to the store; nil before the first.
func (r *Reconciler) Status() *v1alpha1.HostStatus {
	r.requests.mu.Lock()
	defer r.requests.mu.Unlock()
	return r.requests.status
}

func (q *requests) keep(status *v1alpha1.HostStatus) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.status = status
}

// put puts back what take returned.
func (q *requests) put(retry bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reconcile, q.retry = true, q.retry || retry
}

// forget removes what was kept of the requests that take returned, unless there
// is another one by now.
func (q *requests) forget(path string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.reconcile {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget request: %w", err)
	}
	return nil
}

// take returns what Ask asked for since it was called last.
func (q *requests) take() (reconcile, retry bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	reconcile, retry = q.reconcile, q.retry
	q.reconcile, q.retry = false, false
	return reconcile, retry
}
