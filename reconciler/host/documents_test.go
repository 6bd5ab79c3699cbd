package host_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/fault"
)

func TestEqualContentUploadedAgainIsNoChange(t *testing.T) {
	t.Parallel()
	w := converged(t)
	etag, err := w.store.Stat(t.Context(), "statuses/web.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w.put("hosts/web.yaml", "# a comment\n"+hostSpec)
	w.pass()
	again, err := w.store.Stat(t.Context(), "statuses/web.yaml")
	if err != nil || etag.ETag != again.ETag {
		t.Errorf("status changed: %v", err)
	}
	w.wantCalls("build", "test", "profile", "boot")
}

func TestSuspendedHostObservesAndReports(t *testing.T) {
	t.Parallel()
	w := converged(t)
	suspended := strings.Replace(hostSpec, "spec:\n", "spec:\n  suspend: {reason: INC-42, until: \"2026-11-22T12:00:00Z\"}\n", 1)
	w.put("hosts/web.yaml", suspended)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
	w.want("Suspended", meta.True, "Suspended", "INC-42")
	w.publish("web 2")
	if outcome := w.once(); !outcome.Decision.Waiting {
		t.Errorf("decision %+v", outcome.Decision)
	}
	w.want("Ready", meta.False, "Suspended", "Suspended by its HostSpec (INC-42) until 2026-11-22T12:00:00Z; generation 2 of prod (abababababab) is not in force.")
	w.wantCalls("build", "test", "profile", "boot")
	w.now = w.now.Add(2 * time.Hour)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
}

func TestSpecProblems(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ key, data, reason, message string }{
		"missing":          {"", "", "SpecNotFound", "no hosts/web.yaml in the store"},
		"unknown field":    {"hosts/web.yaml", hostSpec + "  remotte: x\n", "SpecInvalid", `hosts/web.yaml:7: spec.remotte: unknown field (did you mean "remote"?)`},
		"wrong kind":       {"hosts/web.yaml", strings.Replace(hostSpec, "HostSpec", "Remote", 1), "SpecInvalid", `kind: found "Remote", expected HostSpec`},
		"another's name":   {"hosts/web.yaml", strings.Replace(hostSpec, "name: web", "name: db", 1), "SpecInvalid", "metadata.name is db, expected web"},
		"empty":            {"hosts/web.yaml", "", "SpecInvalid", "empty"},
		"too large":        {"hosts/web.yaml", strings.Repeat("#", 10<<20), "SpecInvalid", "256 KiB"},
		"missing remote":   {"hosts/web.yaml", strings.Replace(hostSpec, "prod", "other", 1), "RemoteNotFound", "npcnix push --remote other"},
		"second document":  {"hosts/web.yaml", hostSpec + "---\n" + hostSpec, "NotSupported", "a second YAML document"},
		"closures":         {"hosts/web.yaml", hostSpec + "  origin: Closure\n", "NotSupported", "spec.origin: Closure"},
		"malformed remote": {"remotes/prod.yaml", "kind: [", "RemoteInvalid", "remotes/prod.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.publish("web 1")
			if c.key != "" {
				w.put("hosts/web.yaml", hostSpec)
				w.put(c.key, c.data)
			}
			if outcome := w.once(); outcome.Decision.Ready || outcome.Decision.Waiting {
				t.Errorf("decision %+v", outcome.Decision)
			}
			w.want("Ready", meta.False, c.reason, c.message)
			w.want("Stalled", meta.True, c.reason, "")
			w.wantCalls()
			if err := errors.Join(w.store.Delete(t.Context(), "overrides/web.yaml"), w.store.Delete(t.Context(), "remotes/prod.yaml")); err != nil {
				t.Fatal(err)
			}
			w.put("hosts/web.yaml", hostSpec)
			w.publish("web 2")
			w.pass()
			w.want("Ready", meta.True, "UpToDate", "")
		})
	}
}

func TestDefaultsWrittenOutAreSupported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put("hosts/web.yaml", hostSpec+`  origin: Auto
  rebuildPolicy:
    mode: Switch
    reboot: {when: Never, delay: 1m}
    rollback: {onFailure: Rollback}
    diskFull: Report
    minFreeDisk: 2GiB
    retention: {generations: 10}
    timeouts: {build: 1h, activate: 1m, confirm: 300s, reboot: 15m}
`)
	w.publish("web 1")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestSpecThatIsNotUnderstoodLeavesTheLastGoodOneInForce(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		w := converged(t)
		w.put("hosts/web.yaml", hostSpec+"  newField: 1\n")
		w.publish("web 2")
		if restarted {
			w.restart()
		}
		w.pass()
		w.want("SpecAccepted", meta.False, "SpecInvalid", "newField")
		w.want("Ready", meta.False, "SpecInvalid", "newField")
		w.wantCalls("build", "test", "profile", "boot", "build", "test", "profile", "boot") // it goes on following its remote
	}
}

// The words of a refusal name each request anew; the status must not.
func TestRefusedReadsDoNotChangeTheStatusWithMereTime(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"hosts/web.yaml", "remotes/prod.yaml"} {
		w := converged(t)
		etags := map[string]bool{}
		for i := range 3 {
			w.store.Follow(fault.On(key, fault.Fault{Err: fmt.Errorf("%w: request %d", store.ErrAccessDenied, i)}))
			w.pass()
			info, err := w.store.Stat(t.Context(), "statuses/web.yaml")
			if err != nil {
				t.Fatal(err)
			}
			etags[info.ETag] = true
		}
		if len(etags) != 1 {
			t.Errorf("%s: %d statuses in three looks", key, len(etags))
		}
		w.store.Follow(nil)
		w.pass()
		w.want("Ready", meta.True, "UpToDate", "")
	}
}

func TestSpecThatIsGoneStartsNothingNew(t *testing.T) {
	t.Parallel()
	w := converged(t)
	if err := w.store.Delete(t.Context(), "hosts/web.yaml"); err != nil {
		t.Fatal(err)
	}
	w.publish("web 2")
	w.machine.Change(func(m *nixos.Machine) { m.Running = "/nix/store/by-hand" })
	w.now = w.now.Add(time.Hour)
	w.pass()
	w.want("Ready", meta.False, "SpecNotFound", "keeps what it runs")
	w.wantCalls("build", "test", "profile", "boot")
}

func TestStoreThatIsDownIsAnErrorAndRecovers(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.store.Follow(fault.Always(fault.Fault{Err: errors.New("no route to host")}))
	if _, err := w.r.Reconcile(t.Context(), "web"); err == nil || !strings.Contains(err.Error(), "no route") {
		t.Errorf("error %v", err)
	}
	w.store.Follow(nil)
	w.publish("web 2")
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "generation 2")
}

func TestDocumentThatCannotBeReadIsReported(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.store.Follow(fault.On("remotes/prod.yaml", fault.Fault{Err: errors.New("request 1: internal error")}))
	if _, err := w.r.Reconcile(t.Context(), "web"); err == nil {
		t.Error("no error")
	}
	w.want("Ready", meta.False, "StoreUnavailable", "observe remote failed")
	w.want("Activated", meta.True, "Running", "")
	if s := w.status().Status; s.System == nil || s.System.Current != w.machine.State().Running {
		t.Errorf("system %+v", s.System)
	}
	w.store.Follow(nil)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestRefusedSpecDoesNotBringAnOlderOneBack(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.put("hosts/web.yaml", hostSpec+"  origin: Closure\n")
	w.pass()
	w.want("Stalled", meta.True, "NotSupported", "")
	w.put("hosts/web.yaml", hostSpec+"  origin: Closure\n  typo: 1\n")
	w.publish("web 2")
	w.restart()
	w.pass()
	w.want("Ready", meta.False, "SpecInvalid", "")
	w.wantCalls("build", "test", "profile", "boot")
}
