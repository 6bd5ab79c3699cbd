package host_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/nixos/nixfake"
	"github.com/npcnix/npcnix/reconciler/host"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/fault"
)

func down() fault.Script { return fault.Always(fault.Fault{Err: errors.New("no route to host")}) }

// judge makes a pass without the store and returns what it came to.
func (w *world) judge() (reason, message string) {
	w.t.Helper()
	outcome, err := w.r.Once(w.t.Context())
	if err == nil || outcome.TargetKnown || !outcome.StoreFailed || outcome.Decision.Ready {
		w.t.Errorf("outcome %+v, error %v", outcome, err)
	}
	return outcome.Decision.Reason, outcome.Decision.Message
}

func TestHostThatStartsWithoutNetworkKnowsItsState(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.store.Follow(down())
	w.restart()
	w.store.Forget()
	if reason, message := w.judge(); reason != "StoreUnavailable" || !strings.Contains(message, "By the last known documents, generation 1 of prod (abababababab) is what shall run, and it does.") {
		t.Errorf("%s: %s", reason, message)
	}
	if n := len(w.store.Requests()); n != 1 {
		t.Errorf("%d requests to a store that does not answer", n)
	}
	w.machine.Change(func(m *nixos.Machine) { m.Running = "/nix/store/by-hand" })
	if _, message := w.judge(); !strings.Contains(message, "generation 1 of prod (abababababab) is not in force") {
		t.Errorf("message %q", message)
	}
	w.wantCalls("build", "test", "profile", "boot") // nothing is corrected by what may be old
	w.store.Follow(nil)
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
}

// The first look after a restart costs as little as any other.
func TestRestartedAgentAsksConditionally(t *testing.T) {
	t.Parallel()
	w := converged(t)
	before := w.status()
	w.restart()
	w.store.Forget()
	w.pass()
	for _, r := range w.store.Requests() {
		if r.Op == fault.Get && (strings.HasPrefix(r.Key, "hosts/") || strings.HasPrefix(r.Key, "remotes/")) && !r.IfNoneMatch {
			t.Errorf("%s was read anew", r.Key)
		}
	}
	if after := w.status(); *after.Status.Observed.Spec != *before.Status.Observed.Spec || *after.Status.Observed.Remote != *before.Status.Observed.Remote {
		t.Errorf("observed %+v, before %+v", after.Status.Observed, before.Status.Observed)
	}
}

// Whatever is wrong with a file of the state: it is kept aside for a person to
// look at, and the store and the machine say the rest.
func TestStateThatCannotBeUsedIsSetAside(t *testing.T) {
	t.Parallel()
	files := []string{"journal.json", "documents/hostspec.json", "documents/remote.json", "machine-id"}
	for name, damage := range map[string]func(path string) error{
		"empty":             func(p string) error { return os.Truncate(p, 0) },
		"cut off":           func(p string) error { return os.Truncate(p, 10) },
		"binary":            func(p string) error { return os.WriteFile(p, []byte{0, 255, 0, 255}, 0o600) },
		"endless":           func(p string) error { return os.Truncate(p, 10<<30) },
		"a JSON of another": func(p string) error { return os.WriteFile(p, []byte(`{"formatVersion": 0}`), 0o600) },
		"altered":           func(p string) error { return replace(p, "Committed", "Bogus", "prod", "staging", "web-1", "web-2") },
		"of another host":   func(p string) error { return replace(p, `"host": "web"`, `"host": "db"`, "hosts/web", "hosts/db") },
		"a directory":       func(p string) error { return errors.Join(os.Remove(p), os.MkdirAll(p+"/x/y", 0o700)) },
		"a FIFO":            func(p string) error { return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o600)) },
		"a symlink":         func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/dev/zero", p)) },
	} {
		for _, file := range files {
			t.Run(name+" "+file, func(t *testing.T) {
				t.Parallel()
				w := converged(t)
				path := filepath.Join(w.state, file)
				if err := damage(path); errors.Is(err, errNamesNoHost) {
					return
				} else if err != nil {
					t.Fatal(err)
				}
				if file == "machine-id" {
					if err := w.store.Delete(t.Context(), "statuses/web.yaml"); err != nil { // a new id is another machine
						t.Fatal(err)
					}
				}
				w.restart()
				w.publish("web 2")
				w.pass()
				w.want("Ready", meta.True, "UpToDate", "generation 2")
				if aside, err := filepath.Glob(path + ".set-aside-*"); err != nil || len(aside) != 1 {
					t.Errorf("set aside: %v, %v", aside, err)
				}
				lost := false
				for _, a := range w.status().Status.History {
					lost = lost || a.Reason == "JournalLost" && strings.Contains(a.Message, "What was known of earlier attempts is lost")
				}
				if lost != (file == "journal.json") {
					t.Errorf("history %+v", w.status().Status.History)
				}
				w.restart() // and once more over what was written since
				w.pass()
				w.want("Ready", meta.True, "UpToDate", "generation 2")
			})
		}
	}
}

var errNamesNoHost = errors.New("this file does not name its host")

// replace replaces words in a file, in pairs of old and new.
func replace(path string, pairs ...string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	other := strings.NewReplacer(pairs...).Replace(string(data))
	if other == string(data) {
		return errNamesNoHost
	}
	return os.WriteFile(path, []byte(other), 0o600)
}

// Without the journal nobody knows whether the running system was activated
// completely, nor whether a switch is still under way.
func TestLostJournalMakesWhatRunsUnproven(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(path string) error{
		"corrupt": func(path string) error { return os.WriteFile(path, []byte("{"), 0o600) },
		"removed": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := converged(t)
			run := filepath.Join(w.state, "activations", "attempt-1-test") // the fake leaves none
			if err := errors.Join(os.MkdirAll(run, 0o700), lose(filepath.Join(w.state, "journal.json"))); err != nil {
				t.Fatal(err)
			}
			w.restart()
			w.pass()
			w.want("Ready", meta.True, "UpToDate", "")
			w.wantCalls("build", "test", "profile", "boot", "build", "test")
		})
	}
}

func TestWhatKilledAgentsWereWritingIsRemoved(t *testing.T) {
	t.Parallel()
	w := converged(t)
	for name, gone := range map[string]bool{
		".journal.json123": true, "documents/.hostspec.json456": true, "documents/.remote.json7": true, ".machine-id8": true,
		".bashrc": false, ".journal.json.mine": false, // nobody's: the directory may be another than was meant
	} {
		path := filepath.Join(w.state, name)
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.restart()
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) != gone {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A bucket with KMS keys gives equal bytes another ETag each time.
func TestFreshETagsOfEqualBytesAreNoChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.store.Store = fault.NewFreshETags(w.store.Store)
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web 1")
	w.pass()
	before := w.status()
	pointer, _, err := store.ReadAll(t.Context(), w.store, "remotes/prod.yaml", 1<<20, store.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.store.Forget()
	for range 3 {
		w.put("hosts/web.yaml", hostSpec)
		w.put("remotes/prod.yaml", string(pointer))
		w.pass()
	}
	if n := w.store.Count(fault.Put); n != 0 {
		t.Errorf("%d statuses for equal bytes", n)
	}
	if after := w.status(); after.Status.LastAttempt.ID != before.Status.LastAttempt.ID {
		t.Errorf("attempt %+v", after.Status.LastAttempt)
	}
	for range 3 { // and the heartbeat's own ETag changes, too
		w.now = w.now.Add(6 * 60e9)
		w.pass()
	}
	if n := w.store.Count(fault.Put); n != 3 {
		t.Errorf("%d heartbeats", n)
	}
	w.wantCalls("build", "test", "profile", "boot")
}

// An ETag comes back when bytes do: what happened in between was not seen, and
// what was seen in between is undone.
func TestETagThatComesBack(t *testing.T) {
	t.Parallel()
	w := converged(t)
	other := strings.Replace(hostSpec, "spec:\n", "spec:\n  suspend: {reason: INC-42}\n", 1)
	w.put("hosts/web.yaml", other)
	w.put("hosts/web.yaml", hostSpec)
	w.store.Forget()
	w.pass()
	if n := w.store.Count(fault.Put); n != 0 {
		t.Errorf("%d statuses for what was not seen", n)
	}
	w.put("hosts/web.yaml", other)
	w.pass()
	w.want("Suspended", meta.True, "Suspended", "INC-42")
	w.put("hosts/web.yaml", hostSpec)
	w.pass()
	w.want("Suspended", meta.False, "Accepted", "")
	w.want("Ready", meta.True, "UpToDate", "")
}

// The remote cannot be read and none was ever: nothing is known to judge by.
func TestStoreFailsBeforeTheRemoteWasRead(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(w *world){
		"a new host": func(w *world) { w.put("hosts/web.yaml", hostSpec) },
		"another remote": func(w *world) {
			w.put("hosts/web.yaml", hostSpec)
			w.publish("web 1")
			w.pass()
			w.put("hosts/web.yaml", strings.Replace(hostSpec, "prod", "staging", 1))
		},
		"a start without the remote's document": func(w *world) {
			w.put("hosts/web.yaml", hostSpec)
			w.publish("web 1")
			w.pass()
			if err := os.Remove(filepath.Join(w.state, "documents/remote.json")); err != nil {
				w.t.Fatal(err)
			}
			w.restart()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			prepare(w)
			w.store.Follow(func(r fault.Request) fault.Fault {
				if strings.HasPrefix(r.Key, store.Remotes) {
					return fault.Fault{Err: errors.New("503")}
				}
				return fault.Fault{}
			})
			w.judge()
			w.want("Ready", meta.False, "StoreUnavailable", "observe remote failed")
			w.store.Follow(nil)
			w.put("hosts/web.yaml", hostSpec)
			w.publish("web 2")
			w.pass()
			w.want("Ready", meta.True, "UpToDate", "")
		})
	}
}

// A reply that is lost once is said again with the next look.
func TestStatusThatCouldNotBePutOnceIsPutAgain(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.publish("web 2")
	puts := 0
	w.store.Follow(func(r fault.Request) fault.Fault {
		if r.Op == fault.Put {
			if puts++; puts == 5 { // building, activating, the round trips before and after the switch, done
				return fault.Fault{Err: errors.New("503")}
			}
		}
		return fault.Fault{}
	})
	if _, err := w.r.Reconcile(t.Context(), "web"); err == nil {
		t.Error("no error")
	}
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
}

// Credentials that are not valid say nothing of what is there.
func TestInvalidCredentialsAreTheStoresFault(t *testing.T) {
	t.Parallel()
	w := converged(t)
	before := w.status()
	w.store.Follow(fault.On("hosts/web.yaml", fault.Fault{Err: store.ErrUnauthorized}))
	if reason, message := w.judge(); reason != "AccessDenied" || !strings.Contains(message, "By the last known documents") {
		t.Errorf("%s: %s", reason, message)
	}
	w.store.Follow(nil)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
	if *w.status().Status.Observed.Spec != *before.Status.Observed.Spec {
		t.Error("the spec was dropped")
	}
}

func TestDocumentsThatAreNoDirectory(t *testing.T) {
	t.Parallel()
	w := converged(t)
	dir := filepath.Join(w.state, "documents")
	if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
}

// A store that answers, and refuses: the status says so if it can be put.
func TestStoreThatRefuses(t *testing.T) {
	t.Parallel()
	for err, want := range map[error][2]string{
		store.ErrUnauthorized:   {"AccessDenied", "The store refuses the host's credentials: observe remote failed."},
		store.ErrBucketNotFound: {"BucketNotFound", "The store's bucket or directory does not exist."},
	} {
		w := converged(t)
		w.now = w.now.Add(host.Heartbeat)
		w.store.Follow(func(r fault.Request) fault.Fault {
			if strings.HasPrefix(r.Key, "remotes/") {
				return fault.Fault{Err: err}
			}
			return fault.Fault{}
		})
		if _, err := w.r.Reconcile(t.Context(), "web"); err == nil {
			t.Errorf("%s: it ended well", want)
		}
		w.want("Ready", meta.False, want[0], want[1]+" By the last known documents, generation 1 of prod (abababababab) is what shall run, and it does.")
		w.store.Follow(nil)
		w.pass()
		w.want("Ready", meta.True, "UpToDate", "generation 1")
	}
}

// blind is a machine that cannot be looked at.
type blind struct{ *nixfake.Machine }

func (blind) Observe(context.Context, string) (nixos.Machine, error) {
	return nixos.Machine{}, errors.New("read /run/current-system: input/output error")
}

// What nobody foresaw is told, and is over when its cause is.
func TestInternalErrorIsTold(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.with = func(o *hostOptions) { o.Observer = blind{w.machine} }
	w.restart()
	if _, err := w.r.Reconcile(t.Context(), "web"); err == nil {
		t.Error("it ended well")
	}
	w.want("Ready", meta.False, "InternalError", "The agent itself failed, and tries again: plan and act: observe machine: read /run/current-system: input/output error.")
	w.with = nil
	w.restart()
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 1")
}
