package host_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/store/fault"
)

func TestHostGoesFromNothingToReady(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.wantCalls("build", "test", "profile", "boot")
	s := w.status().Status
	m := w.machine.State()
	if s.Desired.Toplevel != m.Running || s.System.Profile != m.Running || s.System.BootDefault != m.Running || s.System.Generation != 1 {
		t.Errorf("status %+v of machine %+v", s.System, m)
	}
	if s.LastAttempt.Outcome != v1alpha1.OutcomeCommitted || s.LastAttempt.Attempt != 1 || *s.LastAttempt.ExitCode != 0 || s.ReadySince == nil {
		t.Errorf("attempt %+v", s.LastAttempt)
	}
	if w.status().Metadata.Labels["role"] != "web" || s.Observed.Remote.Generation != 1 || s.Observed.Remote.Revision == "" {
		t.Errorf("observed %+v", s.Observed.Remote)
	}
	for _, c := range []string{"SpecAccepted", "SourceVerified", "Built", "Activated", "Staged"} {
		if !meta.IsTrue(s.Conditions, c) {
			t.Errorf("%s is not True", c)
		}
	}
}

func TestIdleIsThreeConditionalGetsAndNothingElse(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.store.Forget()
	before, err := os.Stat(filepath.Join(w.state, "journal.json"))
	if err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Minute)
	w.pass()
	after, err := os.Stat(filepath.Join(w.state, "journal.json"))
	if err != nil {
		t.Fatal(err)
	}
	if w.store.Count(fault.Get) != 3 || len(w.store.Requests()) != 3 || !os.SameFile(before, after) {
		t.Errorf("requests %+v, same journal: %v", w.store.Requests(), os.SameFile(before, after))
	}
	w.wantCalls("build", "test", "profile", "boot")
}

func TestPollingAdaptsToTheAgeOfTheDocuments(t *testing.T) {
	t.Parallel()
	w := converged(t)
	for _, c := range []struct{ age, want time.Duration }{
		{0, 5 * time.Second}, {time.Minute, 6 * time.Second}, {10 * time.Minute, time.Minute}, {21 * time.Minute, 2 * time.Minute},
	} {
		w.now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC).Add(c.age)
		if got := w.pass(); got != c.want {
			t.Errorf("after %s the next look is in %s, want %s", c.age, got, c.want)
		}
	}
}

func TestUnchangedToplevelIsNotActivated(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.publish("web 1") // the same tree as generation 2
	w.pass()
	w.wantCalls("build", "test", "profile", "boot")
	w.want("Ready", meta.True, "UpToDate", "generation 2 of prod")
}

func TestANewNixBuildsAgainAndActivatesOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.UpgradeNix()
	w.restart()
	w.pass()
	w.wantCalls("build", "test", "profile", "boot", "build")
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestStateIsForRootAlone(t *testing.T) {
	t.Parallel()
	w := converged(t)
	info, err := os.Stat(w.state)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("state directory: %v %v", info.Mode(), err)
	}
}
