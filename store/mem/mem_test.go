package mem_test

import (
	"testing"
	"time"

	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/mem"
	"github.com/npcnix/npcnix/store/storetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{
		New:        func(*testing.T) store.Store { return mem.New(time.Now) },
		NestedKeys: true,
	})
}
