package host_test

import (
	"context"
	"io"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/nixos/nixfake"
	"github.com/npcnix/npcnix/store"
)

// struck is a machine on which something may happen at an act.
type struck struct {
	*nixfake.Machine

	// who is agent, guard or boot guard; a dead one does nothing any more.
	who  string
	dead *atomic.Bool
	// hit decides what becomes of an act, cut says that the power is to be cut.
	hit func(ctx context.Context, m struck, act string, do func() error) error
	cut *atomic.Bool
	// mutate, if set, starts runs of stc in the machine's place.
	mutate func(ctx context.Context, m *nixfake.Machine, a nixos.Activation) error
}

// at does an act, unless something else happens.
func (m struck) at(ctx context.Context, act string, do func() error) error {
	if m.dead.Load() {
		panic(errKilled)
	}
	return m.hit(ctx, m, act, do)
}

func (m struck) Arm(ctx context.Context, id, dir string, after time.Duration) error {
	return m.at(ctx, "arm", func() error { return m.Machine.Arm(ctx, id, dir, after) })
}

func (m struck) Fire(ctx context.Context, id, dir string) error {
	return m.at(ctx, "fire", func() error { return m.Machine.Fire(ctx, id, dir) })
}

func (m struck) Start(ctx context.Context, a nixos.Activation) error {
	return m.at(ctx, "start "+what(a.ID), func() error {
		if m.mutate != nil {
			return m.mutate(ctx, m.Machine, a)
		}
		return m.Machine.Start(ctx, a)
	})
}

func (m struck) Await(ctx context.Context, id string) (result nixos.Result, err error) {
	err = m.at(ctx, "await "+what(id), func() (err error) { result, err = m.Machine.Await(ctx, id); return err })
	return result, err
}

// what is the part of a run's name that says what it is: of attempt-2-boot-back-1 boot-back.
func what(id string) string {
	return regexp.MustCompile(`^attempt-\d+-|-\d+$`).ReplaceAllString(id, "")
}

func (m struck) Build(ctx context.Context, req nixos.BuildRequest) (toplevel string, err error) {
	err = m.at(ctx, "build", func() (err error) { toplevel, err = m.Machine.Build(ctx, req); return err })
	return toplevel, err
}

func (m struck) Root(ctx context.Context, name string, paths ...string) error {
	return m.at(ctx, "root", func() error { return m.Machine.Root(ctx, name, paths...) })
}

// Reboot ends whoever asks for it.
func (m struck) Reboot(ctx context.Context, _ string) error {
	return m.at(ctx, "reboot", func() error {
		m.cut.Store(true)
		m.dead.Store(true)
		panic(errKilled)
	})
}

func (m struck) Stop(ctx context.Context, id string) error {
	return m.at(ctx, "stop", func() error { return m.Machine.Stop(ctx, id) })
}

func (m struck) SetProfile(ctx context.Context, toplevel string, generation int64) error {
	return m.at(ctx, "profile", func() error { return m.Machine.SetProfile(ctx, toplevel, generation) })
}

func (m struck) Outdated(ctx context.Context) (why string, err error) {
	err = m.at(ctx, "outdated", func() (err error) { why, err = m.Machine.Outdated(ctx); return err })
	return why, err
}

func (m struck) TCP(ctx context.Context, address string) error {
	return m.at(ctx, "check", func() error { return m.Machine.TCP(ctx, address) })
}

func (m struck) Observe(ctx context.Context, desired string) (got nixos.Machine, err error) {
	if m.dead.Load() {
		panic(errKilled)
	}
	return m.Machine.Observe(ctx, desired)
}

// dyingStore is the store of an agent that can be killed.
type dyingStore struct {
	store.Store

	m struck
}

func (s dyingStore) Put(ctx context.Context, key string, body io.ReadSeeker, o store.PutOptions) (string, error) {
	if s.m.dead.Load() {
		return "", errKilled // the heartbeat is a goroutine of its own
	}
	return s.Store.Put(ctx, key, body, o)
}

func (s dyingStore) Get(ctx context.Context, key string, o store.GetOptions) (object *store.Object, err error) {
	if s.m.dead.Load() {
		panic(errKilled)
	}
	if !strings.HasPrefix(key, "archives/") {
		return s.Store.Get(ctx, key, o)
	}
	err = s.m.at(ctx, "fetch", func() (err error) { object, err = s.Store.Get(ctx, key, o); return err })
	return object, err
}
