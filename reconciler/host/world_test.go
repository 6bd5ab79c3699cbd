package host_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos/nixfake"
	"github.com/npcnix/npcnix/reconciler/host"
	"github.com/npcnix/npcnix/reconciler/redact"
	"github.com/npcnix/npcnix/reconciler/transaction"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/archive"
	"github.com/npcnix/npcnix/store/document"
	"github.com/npcnix/npcnix/store/fault"
	"github.com/npcnix/npcnix/store/mem"
)

const hostSpec = `apiVersion: npcnix.dev/v1alpha1
kind: HostSpec
metadata: {name: web, labels: {role: web}}
spec:
  remote: prod
  healthChecks: {settle: 0s}
`

type hostOptions = host.Options

// world is a host with its store, its machine and its clock.
type world struct {
	t       *testing.T
	now     time.Time
	store   *fault.Store
	machine *nixfake.Machine
	state   string
	ids     int
	with    func(o *hostOptions) // changes an agent's options
	r       *host.Reconciler
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := worldAt(t, time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), filepath.Join(t.TempDir(), "state"))
	w.restart()
	return w
}

// worldAt is a world without an agent yet, whose state was made outside of the
// bubble that it may be in.
func worldAt(t *testing.T, now time.Time, state string) *world {
	t.Helper()
	w := &world{t: t, now: now, machine: &nixfake.Machine{}, state: state}
	w.store = fault.New(mem.New(func() time.Time { return w.now }))
	w.machine.OnGuard = w.guardOf(w.machine)
	return w
}

// options are those of the world's agent.
func (w *world) options() host.Options {
	return host.Options{
		Host: "web", Store: w.store, Observer: w.machine, Builder: w.machine, Activator: w.machine,
		Guard: w.machine, Power: w.machine, Service: w.machine, Prober: w.machine,
		Fresh: func(context.Context) (store.Store, error) { return w.store, nil }, Rand: func() float64 { return 0.5 },
		Redact: redact.New("very-secret-word"), StateDir: w.state, MachineIDFile: filepath.Join(w.state, "none"), Limits: archive.DefaultLimits(), Version: "test",
		Now:   func() time.Time { return w.now },
		NewID: func() string { w.ids++; return fmt.Sprintf("attempt-%d", w.ids) },
		Log:   testLog(w.t),
	}
}

// guardOf is what the guard of a transaction does on a machine.
func (w *world) guardOf(m *nixfake.Machine) func(ctx context.Context, dir string) {
	return func(ctx context.Context, dir string) {
		t, err := transaction.Open(dir)
		if err != nil {
			w.t.Errorf("guard: %v", err)
			return
		}
		if _, err := t.RunGuard(ctx, m, func() time.Time { return w.now }); err != nil {
			w.t.Errorf("guard: %v", err)
		}
	}
}

// restart starts a new agent over the same state.
func (w *world) restart() {
	w.t.Helper()
	if w.r != nil {
		if err := w.r.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
	o := w.options()
	if w.with != nil {
		w.with(&o)
	}
	r, err := host.New(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.r == nil {
		w.t.Cleanup(func() {
			if err := w.r.Close(); err != nil {
				w.t.Error(err)
			}
		})
	}
	w.r = r
	w.machine.AgentStarted()
}

func testLog(t *testing.T) logr.Logger {
	t.Helper()
	if testing.Verbose() {
		return testr.New(t)
	}
	return logr.Discard()
}

func (w *world) put(key, data string) {
	w.t.Helper()
	if _, err := w.store.Store.Put(w.t.Context(), key, strings.NewReader(data), store.PutOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

// publish publishes a flake of one file that provides web.
func (w *world) publish(flake string) {
	w.t.Helper()
	dir := w.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte(flake), 0o600); err != nil {
		w.t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = root.Close() }() // only read
	var buf bytes.Buffer
	sum, err := archive.Pack(&buf, root, []string{"flake.nix"})
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = document.Publish(w.t.Context(), w.store.Store, document.Publication{
		Remote: "prod", Archive: bytes.NewReader(buf.Bytes()), Force: true,
		Spec: v1alpha1.RemoteSpec{
			PublishedAt: meta.NewTime(w.now), Source: &v1alpha1.Source{Revision: strings.Repeat("ab", 20)},
			Archive: v1alpha1.Archive{Digest: sum.Digest, Size: sum.Size, NarHash: sum.NarHash},
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// pass lets the agent look once, as its loop does.
func (w *world) pass() time.Duration {
	w.t.Helper()
	result, err := w.r.Reconcile(w.t.Context(), "web")
	if err != nil {
		w.t.Fatalf("reconcile: %v", err)
	}
	return result.After
}

func (w *world) once() host.Outcome {
	w.t.Helper()
	outcome, err := w.r.Once(w.t.Context())
	if err != nil {
		w.t.Fatalf("once: %v", err)
	}
	return outcome
}

func (w *world) status() *v1alpha1.HostStatus {
	w.t.Helper()
	status, _, err := document.Get[v1alpha1.HostStatus](w.t.Context(), w.store.Store, store.StatusKey("web"), v1alpha1.KindHostStatus)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range status.Status.Conditions {
		if wrong := unplain(c); wrong != "" {
			w.t.Errorf("condition %s %s: %s: %q", c.Type, c.Reason, wrong, c.Message)
		}
	}
	for _, a := range status.Status.History {
		said.Store(a.Reason, true)
	}
	if a := status.Status.LastAttempt; a != nil {
		said.Store(a.Reason, true)
	}
	return status
}

// unplain says what is wrong with a condition as people read it, or "": its
// reason is one of the list, its message is made of whole sentences.
func unplain(c meta.Condition) string {
	said.Store(c.Reason, true)
	m := c.Message
	switch {
	case !reasons()[c.Reason]:
		return "no such reason"
	case m == "" || strings.ToUpper(m[:1]) != m[:1] || (!strings.HasSuffix(m, ".") && !strings.HasSuffix(m, "…")): // the latter was cut
		return "no sentence"
	case strings.Contains(m, "%!") || strings.Contains(m, "0001-01-01") || strings.Contains(m, "  ") || strings.Contains(m, ".."):
		return "a slip"
	default:
		return ""
	}
}

func (w *world) want(condition string, status meta.ConditionStatus, reason, message string) {
	w.t.Helper()
	c := meta.FindCondition(w.status().Status.Conditions, condition)
	if c == nil || c.Status != status || c.Reason != reason || !strings.Contains(c.Message, message) {
		w.t.Errorf("condition %s is %+v, want %s/%s with %q", condition, c, status, reason, message)
	}
}

func (w *world) wantCalls(want ...string) {
	w.t.Helper()
	var got []string
	for _, call := range w.machine.Calls() {
		got = append(got, strings.Fields(call)[0])
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		w.t.Errorf("calls %v, want %v", got, want)
	}
}

func converged(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.put("hosts/web.yaml", hostSpec)
	w.publish("web 1")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 1 of prod (abababababab)")
	return w
}

func (w *world) delete(key string) {
	w.t.Helper()
	if err := w.store.Store.Delete(w.t.Context(), key); err != nil {
		w.t.Fatal(err)
	}
}

// spec applies the HostSpec with more fields.
func (w *world) spec(more string) {
	w.t.Helper()
	w.put("hosts/web.yaml", hostSpec+more)
}

// override puts a HostOverride of these fields.
func (w *world) override(fields string) {
	w.t.Helper()
	w.put("overrides/web.yaml", "apiVersion: npcnix.dev/v1alpha1\nkind: HostOverride\nmetadata: {name: web}\nspec: "+fields+"\n")
}

func (w *world) runs() string { return w.machine.State().Running }

// policy applies the spec with a rebuildPolicy whose limits suit a test.
func (w *world) policy(fields string) {
	w.t.Helper()
	if fields != "" {
		fields = ", " + fields
	}
	w.put("hosts/web.yaml", hostSpec+"  rebuildPolicy: {timeouts: {activate: 1s, confirm: 1s}"+fields+"}\n")
}

// wantState wants what runs, is the profile's and boots next.
func (w *world) wantState(running, profile, boot string) {
	w.t.Helper()
	if m := w.machine.State(); m.Running != running || m.Profile != profile || m.BootDefault != boot {
		w.t.Errorf("machine is %+v, want %s %s %s", m, running, profile, boot)
	}
}

func (w *world) lastAttempt() *v1alpha1.Attempt {
	w.t.Helper()
	return w.status().Status.LastAttempt
}
