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

	"github.com/google/renameio/v2"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/plan"
)

// journalVersion is the format of the journal that this agent writes.
const journalVersion = 1

// maxJournal bounds the journal before it is parsed, in bytes.
const maxJournal = 1 << 20

// errJournalTooNew is returned for a journal that a newer agent wrote.
var errJournalTooNew = errors.New("the journal was written by a newer agent; nothing is changed until that agent is back")

// phase is how far a transaction has come. It is written before the act it names.
type phase string

const (
	phaseIdle       phase = "Idle"
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
	FormatVersion int   `json:"formatVersion"`
	Phase         phase `json:"phase"`
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

// loadJournal reads the journal; one that is not there is empty.
func loadJournal(stateDir string) (*journal, error) {
	path := journalPath(stateDir)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &journal{FormatVersion: journalVersion, Phase: phaseIdle}, nil
	}
	if err == nil && info.Size() > maxJournal {
		err = fmt.Errorf("%d bytes are more than the limit of %d", info.Size(), maxJournal)
	}
	if err != nil {
		return nil, fmt.Errorf("read journal %s: %w", path, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	var version struct {
		FormatVersion int `json:"formatVersion"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, fmt.Errorf("read journal %s: %w; move it away to start anew", path, err)
	}
	if version.FormatVersion > journalVersion {
		return nil, fmt.Errorf("%w (format %d in %s, this agent knows %d)", errJournalTooNew, version.FormatVersion, path, journalVersion)
	}
	j := &journal{}
	if err := json.Unmarshal(data, j); err != nil {
		return nil, fmt.Errorf("read journal %s: %w; move it away to start anew", path, err)
	}
	return j, nil
}

// saveJournal replaces the journal: written, synced, renamed, and the rename
// made durable.
func saveJournal(stateDir string, j *journal) error {
	data, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := renameio.WriteFile(journalPath(stateDir), append(data, '\n'), 0o600, renameio.WithTempDir(stateDir)); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	dir, err := os.Open(stateDir)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
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
