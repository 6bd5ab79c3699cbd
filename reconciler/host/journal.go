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
	"github.com/npcnix/npcnix/reconciler/health"
	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/reconciler/statefile"
)

// journalVersion is the format of the journal that this agent writes.
const journalVersion = 2

// errJournalTooNew is returned for a journal that a newer agent wrote.
var errJournalTooNew = errors.New(journalTooNew)

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
	phaseArmed      phase = "Armed"
	phaseSwitching  phase = "Switching"
	phaseConfirming phase = "Confirming"
	phaseCommitting phase = "Committing"
	phaseCommitted  phase = "Committed"
	// phaseStaging: profile and boot default are being set, without activation.
	phaseStaging phase = "Staging"
	// phaseRebootPending: they are, and only a reboot is missing.
	phaseRebootPending  phase = "RebootPending"
	phaseRollingBack    phase = "RollingBack"
	phaseRolledBack     phase = "RolledBack"
	phaseRollbackFailed phase = "RollbackFailed"
	phaseFailed         phase = "Failed"
)

// transacting reports whether a transaction is open whose acts must be ended.
func (p phase) transacting() bool {
	switch p {
	case phaseArmed, phaseSwitching, phaseConfirming, phaseCommitting, phaseStaging, phaseRollingBack:
		return true
	default:
		return false
	}
}

// waiting reports whether a staged transaction waits for a reboot, also one that
// the machine was told to make.
func (p phase) waiting() bool { return p == phaseRebootPending }

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
	Committed string `json:"committed,omitempty"`
	// Superseded is a target that a person switched away from while it was
	// brought into force.
	Superseded string `json:"superseded,omitempty"`
	// Unproven is a toplevel whose activation began and did not end well.
	Unproven string `json:"unproven,omitempty"`
	// UnprovenUnits are those that failed by it, as far as that is known.
	UnprovenUnits []string `json:"unprovenUnits,omitempty"`
	// Staged is the toplevel that waits for a reboot, Dry the one that
	// dry-activate was asked about last.
	Staged string `json:"staged,omitempty"`
	Dry    string `json:"dry,omitempty"`
	Drift  *drift `json:"drift,omitempty"`
	// ConfirmingSince is when confirming began: its limit is one for all agents
	// that come and go meanwhile.
	ConfirmingSince time.Time `json:"confirmingSince,omitzero"`
	// RebootNeeded says that Staged can only be started by a reboot, and not just
	// by a policy of mode Boot.
	RebootNeeded bool `json:"rebootNeeded,omitempty"`
	// BootID is the boot of the newest phase.
	BootID string `json:"bootID,omitempty"`
	// LeaveBoot is a boot that the machine is to leave, as the newest
	// transaction ended.
	LeaveBoot string `json:"leaveBoot,omitempty"`
	// Leaving is how often the machine was told so; StayedIn is the boot that it
	// did not leave.
	Leaving  plan.Reboots `json:"leaving,omitzero"`
	StayedIn string       `json:"stayedIn,omitempty"`
	// Restarts counts the restarts of the agent in this transaction, and
	// RestartedFor is what it was restarted for last.
	Restarts     int    `json:"restarts,omitempty"`
	RestartedFor string `json:"restartedFor,omitempty"`
	// Quarantine holds the targets that were taken back, newest first.
	Quarantine []quarantined `json:"quarantine,omitempty"`
	// BootedOther is a system that was booted instead of the committed one.
	BootedOther *bootedOther `json:"bootedOther,omitempty"`
	// Units are the services as they were when the committed system was confirmed.
	Units *health.Baseline `json:"units,omitempty"`
	// Handled are the requests of the override that were taken up. Asked says that
	// one was, or one of a person on the host, and that no attempt has ended since.
	Handled v1alpha1.Handled `json:"handled,omitzero"`
	Asked   bool             `json:"asked,omitempty"`
	// Reboot is one that is wanted.
	Reboot *plan.Reboots `json:"reboot,omitempty"`
	// VainBoots are those of a system that was booted and taken back without a
	// verdict about it. A commit does not forget them, but one by a boot.
	VainBoots *vainBoots `json:"vainBoots,omitempty"`
	// CollectedAt is when garbage was collected last.
	CollectedAt time.Time `json:"collectedAt,omitzero"`
	// PrunedAt is when room was made on /boot last, and PrunedTo how many
	// generations were kept.
	PrunedAt time.Time `json:"prunedAt,omitzero"`
	PrunedTo int32     `json:"prunedTo,omitempty"`
	// LogSlot is where the next log goes.
	LogSlot int `json:"logSlot,omitempty"`
}

// quarantined is a target that is not tried again with the same policy.
type quarantined struct {
	Toplevel string `json:"toplevel"`
	// Policy is the digest of rebuildPolicy and healthChecks.
	Policy  string `json:"policy"`
	Message string `json:"message"`
}

// vainBoots counts the boots of a system, under one policy.
type vainBoots struct {
	Toplevel string `json:"toplevel"`
	Policy   string `json:"policy"`
	Count    int32  `json:"count"`
}

// bootedOther is a boot into another system than the committed one, which
// counts until the documents' content changes.
type bootedOther struct {
	Booted    string `json:"booted"`
	Committed string `json:"committed"`
	Content   string `json:"content"`
}

// forgive forgets, at an operator's word, what would hold a target back.
func (j *journal) forgive() {
	j.Quarantine, j.BootedOther, j.VainBoots, j.StayedIn = nil, nil, nil, ""
	j.Tries = tries{Key: j.Tries.Key}
	if j.Reboot != nil {
		j.Reboot.Asked = 0
	}
}

// maxQuarantine is how many targets are remembered.
const maxQuarantine = 20

// quarantine remembers that a target was taken back.
func (j *journal) quarantine(q quarantined) {
	j.Quarantine = slices.DeleteFunc(j.Quarantine, func(old quarantined) bool { return old.Toplevel == q.Toplevel && old.Policy == q.Policy })
	j.Quarantine = append([]quarantined{q}, j.Quarantine...)
	j.Quarantine = j.Quarantine[:min(len(j.Quarantine), maxQuarantine)]
}

// doubt remembers a system that began to run and did not prove itself, and what
// failed by it.
func (j *journal) doubt(toplevel string, units []string) {
	if j.Unproven != toplevel {
		j.Unproven, j.UnprovenUnits = toplevel, nil
	}
	for _, name := range units {
		if !slices.Contains(j.UnprovenUnits, name) {
			j.UnprovenUnits = append(j.UnprovenUnits, name)
		}
	}
}

// loseStaged forgets a staged system of which nothing is known any more.
func (j *journal) loseStaged() { j.Reboot, j.Staged, j.RebootNeeded = nil, "", false }

// endReboot forgets a reboot with the transaction that was of it. Over another
// one it goes on, but for its announcement.
func (j *journal) endReboot(its bool) {
	switch {
	case j.Reboot == nil:
	case its:
		j.Reboot = nil
	default:
		j.Reboot.Announced = time.Time{}
	}
}

// bootedInVain counts one more boot of a target.
func (j *journal) bootedInVain(toplevel, policy string) {
	if v := j.VainBoots; v == nil || v.Toplevel != toplevel || v.Policy != policy {
		j.VainBoots = &vainBoots{Toplevel: toplevel, Policy: policy}
	}
	j.VainBoots.Count++
}

// quarantined says why a target is not tried, or "".
func (j *journal) quarantined(toplevel, policy string) string {
	for _, q := range j.Quarantine {
		if q.Toplevel == toplevel && q.Policy == policy {
			return q.Message
		}
	}
	return ""
}

// tries counts the attempts at the target that Key names.
type tries struct {
	Key string `json:"key"`
	// Counted failures are those that maxAttempts bounds, Transient the others in a row.
	Counted   int32 `json:"counted"`
	Transient int32 `json:"transient"`
	// Interrupted are the attempts that a reboot cut off.
	Interrupted int32         `json:"interrupted,omitempty"`
	Failure     *plan.Failure `json:"failure,omitempty"`
}

// failed reports whether an attempt at the target failed; that of a reboot into
// it is none, and counts as long as a reboot is wanted.
func (t tries) failed() bool { return t.Failure != nil && !t.Failure.Reboot }

// settled are the tries once nothing is left to do but a reboot.
func (t tries) settled() tries {
	if t.Failure != nil && !t.failed() {
		return t
	}
	return tries{Key: t.Key}
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
	// Skewed says that Since is of a clock that could not be trusted.
	Skewed bool `json:"skewed,omitempty"`
}

// maxBuilt is how many sources' toplevels are remembered and rooted.
const maxBuilt = 4

func journalPath(stateDir string) string { return filepath.Join(stateDir, "journal.json") }

// loadJournal reads the journal. One that is not there is empty; one that
// cannot be used is set aside, and the new one says so.
func (r *Reconciler) loadJournal() (*journal, error) {
	path := journalPath(r.opts.StateDir)
	data, err := statefile.Read(path)
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
		err = statefile.Unusable("it is gone, but switches that it knew of are not")
	case errors.Is(err, statefile.ErrUnusable):
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
		return statefile.Unusable("%v", err)
	}
	if version.FormatVersion > journalVersion {
		return fmt.Errorf("%w: it has format %d, this agent knows %d", errJournalTooNew, version.FormatVersion, journalVersion)
	}
	if err := json.Unmarshal(data, j); err != nil {
		return statefile.Unusable("%v", err)
	}
	if version.FormatVersion < 1 {
		return statefile.Unusable("it has no known format")
	}
	if version.FormatVersion == 1 {
		j.upgrade()
	}
	return j.check(host)
}

// upgrade turns a journal of format 1, which knew no transactions, into one of
// this format.
func (j *journal) upgrade() {
	if j.open() {
		j.Unproven = j.Attempt.Target
		j.Attempt.Outcome, j.Attempt.Reason = v1alpha1.OutcomeFailed, v1alpha1.ReasonInterrupted
		j.Attempt.Message = olderAgentEnded
		j.Phase = phaseFailed
	}
	if !slices.Contains(phases(), j.Phase) || j.Phase.transacting() {
		j.Phase = phaseIdle
	}
	j.FormatVersion = journalVersion
}

// phases are those that this format knows.
func phases() []phase {
	return []phase{
		phaseIdle, phaseLost, phaseFetched, phaseVerified, phaseBuilt, phaseArmed, phaseSwitching, phaseConfirming, phaseCommitting,
		phaseCommitted, phaseStaging, phaseRebootPending, phaseRollingBack, phaseRolledBack, phaseRollbackFailed, phaseFailed,
	}
}

// check refuses what no agent writes.
func (j *journal) check(host string) error {
	switch {
	case j.Host != host:
		return statefile.Unusable("it is of host %q, this is %s", j.Host, host)
	case !slices.Contains(phases(), j.Phase):
		return statefile.Unusable("its phase is %q", j.Phase)
	case j.Attempt == nil && (j.Phase.transacting() || j.Phase.waiting()):
		return statefile.Unusable("its phase is %s, and it has no attempt", j.Phase)
	case j.Tries.Counted < 0 || j.Tries.Transient < 0:
		return statefile.Unusable("it counts less than no attempt")
	case j.Attempt != nil && (j.Attempt.ID == "" || filepath.Base(j.Attempt.ID) != j.Attempt.ID):
		return statefile.Unusable("its attempt has the name %q", j.Attempt.ID)
	default:
		return nil
	}
}

// lose makes the journal that takes the place of one that cannot be used.
func (j *journal) lose(why error, id string, now time.Time) {
	j.Phase = phaseLost
	j.Attempt = &v1alpha1.Attempt{ID: id, StartedAt: newTime(now), Outcome: v1alpha1.OutcomeFailed}
	j.end(phaseLost, v1alpha1.OutcomeFailed, v1alpha1.ReasonJournalLost,
		journalLost(why), now)
}

// hasRuns reports whether switches were started over this state directory.
func (r *Reconciler) hasRuns() bool { return len(r.names("activations")) > 0 }

// names are those of the entries of a directory of the state.
func (r *Reconciler) names(dir string) []string {
	entries, err := os.ReadDir(filepath.Join(r.opts.StateDir, dir))
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
	if err := statefile.WriteJSON(journalPath(stateDir), j); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// save replaces the journal. Where that fails, what was to be remembered is
// forgotten with the next look: nothing counts that a crash could lose.
func (r *Reconciler) save() error {
	err := saveJournal(r.opts.StateDir, r.journal)
	if r.unsaved = err != nil; r.unsaved {
		return fmt.Errorf("%w: %w", errStateNotWritable, err)
	}
	return nil
}

// errStateNotWritable is returned where the journal cannot be written.
var errStateNotWritable = errors.New("nothing is begun that could not be remembered")

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
	j.Restarts = 0
	j.FormatVersion = journalVersion // while a transaction was open it stayed as it was found
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
