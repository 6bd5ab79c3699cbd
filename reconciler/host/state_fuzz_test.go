package host

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/statefile"
)

// FuzzJournal wants every journal to be used, refused, or left to a newer
// agent, and what is used to be the same when it is written and read again.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"formatVersion": 1, "host": "web", "phase": "Switching", "attempt": {"id": "a", "outcome": "Running"}}`))
	f.Add([]byte(`{"formatVersion": 2}`))
	f.Add([]byte(`{"formatVersion": 1, "host": "db", "phase": "Idle"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		j := &journal{}
		err := j.decode(data, "web")
		if err != nil {
			if !errors.Is(err, statefile.ErrUnusable) && !errors.Is(err, errJournalTooNew) {
				t.Errorf("error %v", err)
			}
			return
		}
		dir := t.TempDir()
		if err := saveJournal(dir, j); err != nil {
			t.Fatal(err)
		}
		written, err := statefile.Read(filepath.Join(dir, "journal.json"))
		if errors.Is(err, statefile.ErrUnusable) { // it grew beyond what is read
			return
		}
		again := &journal{}
		if err := errors.Join(err, again.decode(written, "web")); err != nil || again.Phase != j.Phase || again.Committed != j.Committed || again.open() != j.open() {
			t.Errorf("%v: %+v became %+v", err, j, again)
		}
	})
}

// FuzzAccept wants hosts to take or to refuse whatever stands in their documents.
func FuzzAccept(f *testing.F) {
	for _, name := range []string{"hostspec.yaml", "remote.yaml", "hostoverride.yaml"} {
		data, err := os.ReadFile(filepath.Join("..", "..", "examples", "documents", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("apiVersion: npcnix.dev/v1alpha1\nkind: HostSpec\nmetadata: {name: web}\nspec: {remote: prod}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		accepted, problem := acceptSpec(known{key: "hosts/web.yaml"}, data, "web")
		if (accepted == nil) == (problem == nil) {
			t.Errorf("accepted %v, problem %v", accepted, problem)
		}
		if accepted != nil && (accepted.spec.Remote == "" || accepted.spec.FlakeAttribute == "" || accepted.spec.RebuildPolicy.Retry.MaxAttempts == nil) {
			t.Errorf("defaults are missing: %+v", accepted.spec)
		}
		var d documents
		d.acceptRemote("prod", data)
		if (d.publication == nil) == (d.remoteProblem == nil) {
			t.Errorf("publication %v, problem %v", d.publication, d.remoteProblem)
		}
		if d.remoteProblem != nil && d.remoteProblem.Reason != v1alpha1.ReasonRemoteInvalid {
			t.Errorf("problem %+v", d.remoteProblem)
		}
	})
}
