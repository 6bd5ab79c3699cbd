package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/nixos/nixfake"
	"github.com/npcnix/npcnix/reconciler/host"
	"github.com/npcnix/npcnix/reconciler/redact"
	"github.com/npcnix/npcnix/reconciler/transaction"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/archive"
	"github.com/npcnix/npcnix/store/document"
	"github.com/npcnix/npcnix/store/mem"
)

// disk is a file system of which not all survives a power cut: what is live is
// what programs see, what is durable is what is there after a power cut.
type disk struct{ live, durable map[string]string }

// do carries out an operation. What is written survives once its file is
// synced; names, once their directory is.
func (d *disk) do(o operation, synced map[string]string) {
	switch o.call {
	case "create":
		if _, there := d.live[o.path]; !there {
			d.live[o.path] = ""
		}
	case "write":
		d.live[o.path] += o.data
	case "rename":
		d.live[o.to] = d.live[o.path]
		synced[o.to] = synced[o.path]
		delete(d.live, o.path)
	case "remove":
		delete(d.live, o.path)
	case "fsync":
		if data, file := d.live[o.path]; file {
			synced[o.path] = data
			return
		}
		for path := range d.durable { // a directory
			if _, there := d.live[path]; filepath.Dir(path) == o.path && !there {
				delete(d.durable, path)
			}
		}
		for path := range d.live {
			if filepath.Dir(path) == o.path {
				d.durable[path] = synced[path]
			}
		}
	}
}

// A power cut after any operation of an agent that brings a system into force
// leaves a state from which the next agent goes on by itself: nothing torn,
// nothing set aside, and in the end the declared system.
func TestEveryPrefixOfWritesIsRecoveredFrom(t *testing.T) {
	t.Parallel()
	s := newSite(t, "file://"+filepath.Join(t.TempDir(), "store"))
	s.apply(spec("web-1"))
	state := s.path("web-1/var/lib/npcnix")
	d := &disk{live: map[string]string{}, durable: map[string]string{}}
	synced, seen := map[string]string{}, map[string]bool{}
	for _, c := range []struct {
		code   int
		system string
	}{{0, `{ motd = "one"; }`}, {3, `{ motd = "two"; activation = "exit 1"; }`}} {
		s.publish(c.system)
		for i, o := range s.trace(c.code, "web-1") {
			if !strings.HasPrefix(o.path, state+"/") && o.path != state {
				continue
			}
			d.do(o, synced)
			for name, files := range map[string]map[string]string{"all of it": d.live, "what was synced": d.durable} {
				kept := stateFiles(files, state)
				id := fmt.Sprint(kept) // sorted by key
				if seen[id] {
					continue
				}
				seen[id] = true
				if err := recoverFrom(t, kept); err != nil {
					t.Errorf("after operation %d, %s %s, with %s: %v", i, o.call, o.path, name, err)
				}
			}
		}
	}
	t.Logf("%d different states", len(seen))
	if len(seen) < 20 {
		t.Error("that is too few to show anything")
	}
}

// stateFiles are the agent's own files, by their names below the state.
func stateFiles(files map[string]string, state string) map[string]string {
	kept := map[string]string{}
	for path, data := range files {
		name := strings.TrimPrefix(path, state+"/")
		if name != path && (strings.HasSuffix(name, ".json") || strings.HasPrefix(name, "transactions/")) && !strings.HasPrefix(name, "activations/") {
			kept[name] = data
		}
	}
	return kept
}

// recoverFrom starts an agent over a state, on a machine that was just booted.
func recoverFrom(t *testing.T, files map[string]string) (err error) {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(data), 0o600)); err != nil {
			return err
		}
	}
	synctest.Test(t, func(t *testing.T) { err = recoverIn(t, dir) })
	return err
}

func recoverIn(t *testing.T, dir string) error {
	t.Helper()
	m := &nixfake.Machine{}
	m.Change(func(s *nixos.Machine) {
		const old = "/nix/store/00000000000000000000000000000000-old"
		s.Running, s.Booted, s.Profile, s.BootDefault, s.ProfileGeneration = old, old, old, old, 1
	})
	m.OnGuard = func(ctx context.Context, dir string) {
		if tx, err := transaction.Open(dir); err == nil {
			_, _ = tx.RunGuard(ctx, m, time.Now)
		}
	}
	ids, web := 0, storeOfWeb(t)
	r, err := host.New(t.Context(), host.Options{
		Host: "web-1", Store: web, Observer: m, Builder: m, Activator: m, Guard: m, Power: m, Service: m, Prober: m,
		Redact: redact.New(), Rand: func() float64 { return 0.5 }, StateDir: dir, MachineIDFile: filepath.Join(dir, "none"),
		Limits: archive.DefaultLimits(), Version: "test", Now: time.Now, Log: logr.Discard(),
		NewID: func() string { ids++; return fmt.Sprintf("recovered-%d", ids) },
		Fresh: func(context.Context) (store.Store, error) { return web, nil },
	})
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // the test ends
	ready := ""
	for range 10 {
		if _, err := r.Reconcile(t.Context(), "web-1"); err != nil {
			ready = err.Error()
		} else if c := meta.FindCondition(r.Status().Status.Conditions, v1alpha1.ConditionReady); c != nil {
			ready = c.Reason
		}
		time.Sleep(time.Hour)
	}
	m.WaitGuards()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), "set-aside") {
			return fmt.Errorf("%s was set aside", e.Name())
		}
	}
	if now := m.State(); ready != v1alpha1.ReasonUpToDate || now.Running != now.Profile || now.Profile != now.BootDefault {
		return fmt.Errorf("it ended with %s: %+v", ready, now)
	}
	return nil
}

// storeOfWeb declares web-1, and has a flake that provides it.
func storeOfWeb(t *testing.T) store.Store {
	t.Helper()
	s, dir := mem.New(time.Now), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "flake.nix"), []byte("web-1"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }() // only read
	var packed bytes.Buffer
	sum, err := archive.Pack(&packed, root, []string{"flake.nix"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = document.Publish(t.Context(), s, document.Publication{
		Remote: "prod", Archive: bytes.NewReader(packed.Bytes()), Spec: v1alpha1.RemoteSpec{
			PublishedAt: meta.NewTime(time.Now()), Archive: v1alpha1.Archive{Digest: sum.Digest, Size: sum.Size, NarHash: sum.NarHash},
		},
	})
	if err == nil {
		_, err = s.Put(t.Context(), store.HostSpecKey("web-1"), strings.NewReader(spec("web-1")), store.PutOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}
