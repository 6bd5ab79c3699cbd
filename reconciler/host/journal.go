package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/plan"
)

// journalVersion is the format of the journal that this agent writes.
const journalVersion = 1

// errJournalTooNew is returned for a journal that a newer agent wrote.
var errJournalTooNew = errors.New("the journal was written by a newer agent; nothing is changed until that agent is back")

// phase is how far a transaction has come. It is written before the act it names.
type phase string

const (
	phaseIdle phase = "Idle"
	// phaseLost: an earlier journal could not be used, so nothing is known of
	// what was under way.
	phaseLost       phase = "Lost"
	phaseFetched    phase = "Fetched"
	phaseVerified   phase = "Verified"
	phaseBuilt      phase = "Built"
	phaseSwitching  phase = "Switching"
	phaseActivated  phase = "Activated"
	phaseCommitting phase = "Committing"
	phaseCommitted  phase = "Committed"
	phaseFailed     phase = "Failed"
)

// journal is what the host remembers between two looks and over a crash.
type journal struct {
	FormatVersion int `json:"formatVersion"`
	// Host is whose journal it is.
	Host  string `json:"host"`
	Phase phase  `json:"phase"`
	// Attempt is the newest transaction as the status shows it, History those before.
	Attempt *v1alpha1.Attempt  `json:"attempt,omitempty"`
	History []v1alpha1.Attempt `json:"history,omitempty"`
	// Tries counts the attempts at one target.
	Tries tries `json:"tries"`
	// Verified is the digest of the archive that was last fetched and verified.
	Verified string `json:"verified,omitempty"`
	// Built remembers which toplevel a source gave, newest first.
	Built []built `json:"built,omitempty"`
	// Committed is the toplevel that was last committed.
	Committed string    `json:"committed,omitempty"`
	Degraded  *degraded `json:"degraded,omitempty"`
	// Unproven is a toplevel whose activation began and did not end well.
	Unproven string `json:"unproven,omitempty"`
	Drift    *drift `json:"drift,omitempty"`
}

// tries counts the attempts at the target that Key names.
type tries struct {
	Key string `json:"key"`
	// Counted failures are those that maxAttempts bounds, Transient the others in a row.
	Counted   int32         `json:"counted"`
	Transient int32         `json:"transient"`
	Failure   *plan.Failure `json:"failure,omitempty"`
}

// built says that a source gave a toplevel, which OutLink roots.
type built struct {
	Archive    string `json:"archive"`
	Attribute  string `json:"attribute"`
	NixVersion string `json:"nixVersion"`
	Toplevel   string `json:"toplevel"`
	OutLink    string `json:"outLink"`
}

// drift is a machine that differs from what was committed.
type drift struct {
	// Running is what ran; another value starts the grace anew.
	Running string    `json:"running"`
	Since   time.Time `json:"since"`
}

// degraded is a system that was activated although some unit failed.
type degraded struct {
	Toplevel string `json:"toplevel"`
	Message  string `json:"message"`
}

// of returns what did not start in the toplevel, or "".
func (d *degraded) of(toplevel string) string {
	if d == nil || d.Toplevel != toplevel {
		return ""
	}
	return d.Message
}

// maxBuilt is how many sources' toplevels are remembered and rooted.
const maxBuilt = 4

func journalPath(stateDir string) string { return filepath.Join(stateDir, "journal.json") }

// loadJournal reads the journal. One that is not there is empty; one that
// cannot be used is set aside, and the new one says so.
func (r *Reconciler) loadJournal() (*journal, error) {
	path := journalPath(r.opts.StateDir)
	data, err := readState(path)
	j := &journal{}
	if err == nil {
		err = j.decode(data, r.opts.Host)
	}
	fresh := &journal{FormatVersion: journalVersion, Host: r.opts.Host, Phase: phaseIdle}
	switch {
	case err == nil:
		return j, nil
	case errors.Is(err, errJournalTooNew):
		return nil, fmt.Errorf("%w (%s)", err, path)
	case errors.Is(err, fs.ErrNotExist) && !r.hasRuns():
		return fresh, nil
	case errors.Is(err, fs.ErrNotExist):
		err = unusable("it is gone, but switches that it knew of are not")
	case errors.Is(err, errUnusable):
		if err := r.setAside(path, err); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("read journal: %w", err)
	}
	fresh.lose(err, r.opts.NewID(), r.opts.Now())
	return fresh, saveJournal(r.opts.StateDir, fresh)
}

// decode reads a journal of this host, in a format that this agent knows.
func (j *journal) decode(data []byte, host string) error {
	var version struct {
		FormatVersion int `json:"formatVersion"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return unusable("%v", err)
	}
	if version.FormatVersion > journalVersion {
		return fmt.Errorf("%w: it has format %d, this agent knows %d", errJournalTooNew, version.FormatVersion, journalVersion)
	}
	if err := json.Unmarshal(data, j); err != nil {
		return unusable("%v", err)
	}
	if version.FormatVersion != journalVersion {
		return unusable("it has no known format")
	}
	return j.check(host)
}

// phases are those that this format knows.
func phases() []phase {
	return []phase{
		phaseIdle, phaseLost, phaseFetched, phaseVerified, phaseBuilt, phaseSwitching,
		phaseActivated, phaseCommitting, phaseCommitted, phaseFailed,
	}
}

// check refuses what no agent writes.
func (j *journal) check(host string) error {
	switch {
	case j.Host != host:
		return unusable("it is of host %q, this is %s", j.Host, host)
	case !slices.Contains(phases(), j.Phase):
		return unusable("its phase is %q", j.Phase)
	case j.Tries.Counted < 0 || j.Tries.Transient < 0:
		return unusable("it counts less than no attempt")
	case j.Attempt != nil && (j.Attempt.ID == "" || filepath.Base(j.Attempt.ID) != j.Attempt.ID):
		return unusable("its attempt has the name %q", j.Attempt.ID)
	default:
		return nil
	}
}

// lose makes the journal that takes the place of one that cannot be used.
func (j *journal) lose(why error, id string, now time.Time) {
	j.Phase = phaseLost
	j.Attempt = &v1alpha1.Attempt{ID: id, StartedAt: newTime(now), Outcome: v1alpha1.OutcomeFailed}
	j.end(phaseLost, v1alpha1.OutcomeFailed, v1alpha1.ReasonJournalLost,
		"What was known of earlier attempts is lost: the journal "+why.Error()+".", now)
}

// hasRuns reports whether switches were started over this state directory.
func (r *Reconciler) hasRuns() bool { return len(r.runs()) > 0 }

// runs names the switches that were started over this state directory.
func (r *Reconciler) runs() []string {
	entries, err := os.ReadDir(filepath.Join(r.opts.StateDir, "activations"))
	if err != nil {
		return nil // none yet
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// saveJournal replaces the journal.
func saveJournal(stateDir string, j *journal) error {
	data, err := json.MarshalIndent(j, "", "  ")
	if err == nil {
		err = writeState(journalPath(stateDir), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// find returns the toplevel that a source gave, or nil.
func (j *journal) find(archive, attribute, nixVersion string) *built {
	for i := range j.Built {
		if b := &j.Built[i]; b.Archive == archive && b.Attribute == attribute && b.NixVersion == nixVersion {
			return b
		}
	}
	return nil
}

// remember puts b first and forgets what it replaces and the oldest, but never
// the committed toplevel's.
func (j *journal) remember(b built) {
	kept := []built{b}
	rooted := b.Toplevel == j.Committed // one root of it is enough
	for _, old := range j.Built {
		same := old.Archive == b.Archive && old.Attribute == b.Attribute && old.NixVersion == b.NixVersion
		needed := old.Toplevel == j.Committed && !rooted
		if !same && (len(kept) < maxBuilt || needed) {
			kept = append(kept, old)
			rooted = rooted || old.Toplevel == j.Committed
		}
	}
	j.Built = kept
}

// begin makes a the newest attempt.
func (j *journal) begin(a v1alpha1.Attempt) {
	if j.Attempt != nil {
		j.History = trim(append([]v1alpha1.Attempt{*j.Attempt}, j.History...))
	}
	j.Attempt = &a
	j.Phase = phaseIdle
}

// trim keeps the newest attempts, and the newest that brought a system into
// force: from it one learns which revision runs.
func trim(history []v1alpha1.Attempt) []v1alpha1.Attempt {
	if len(history) <= v1alpha1.MaxStatusHistory {
		return history
	}
	kept := history[:v1alpha1.MaxStatusHistory]
	inForce := func(a v1alpha1.Attempt) bool { return a.InForce() }
	if i := slices.IndexFunc(history, inForce); i >= len(kept) {
		kept[len(kept)-1] = history[i]
	}
	return kept
}

// open reports whether the newest attempt has not ended.
func (j *journal) open() bool {
	return j.Attempt != nil && j.Attempt.Outcome == v1alpha1.OutcomeRunning
}

// end closes the newest attempt.
func (j *journal) end(p phase, outcome v1alpha1.Outcome, reason, message string, now time.Time) {
	j.Phase = p
	if j.Attempt != nil {
		j.Attempt.Outcome, j.Attempt.Reason = outcome, reason
		j.Attempt.Message = meta.Cut(message, meta.MaxMessage)
		j.Attempt.FinishedAt = new(meta.NewTime(now))
	}
}
