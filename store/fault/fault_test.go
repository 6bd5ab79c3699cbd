package fault_test

import (
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/fault"
	"github.com/npcnix/npcnix/store/mem"
	"github.com/npcnix/npcnix/store/storetest"
)

func TestConformanceWithoutFaults(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{
		New:        func(*testing.T) store.Store { return fault.New(mem.New(time.Now)) },
		NestedKeys: true,
	})
}

func TestConformanceWithFreshETags(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{
		New:        func(*testing.T) store.Store { return fault.NewFreshETags(mem.New(time.Now)) },
		NestedKeys: true, FreshETags: true,
	})
}
