package onhosts_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// kills is how many moments are tried; make soak asks for more.
func kills() int {
	n, err := strconv.Atoi(os.Getenv("NPCNIX_SOAK"))
	if err != nil {
		return 20
	}
	return n
}

// The agent is killed at a seeded moment of bringing a new system into force,
// some of them sick; the next agent and the guard end what it began.
func TestOnHostsKilledAtRandom(t *testing.T) {
	t.Parallel()
	h := newMachine(t, "killed", "trixie", false)
	h.spec("", checks)
	good := h.good("_: { }")
	n, killed, converged := kills(), 0, 0
	for seed := 1; seed <= n; seed++ {
		random := rand.New(rand.NewPCG(uint64(seed), 0)) //nolint:gosec // seeded, to be repeated
		after := time.Duration(random.IntN(3500)) * time.Millisecond
		sick := random.IntN(4) == 0
		extra, want := `base: { activation = base.activation + "; sleep 0.3"; bootLoader = "sleep 0.3"; }`, "True UpToDate"
		if sick {
			extra, want = `base: { units = base.units // { "bad.service" = { wantedBy = [ "multi-user.target" ]; text = "[Service]\nType=oneshot\nExecStart=/bin/false\n"; }; }; }`, "False Quarantined"
		}
		release := h.publish(extra)
		if _, err := h.try(fmt.Sprintf("sleep %.3f; systemctl kill -s KILL npcnix-reconciler", after.Seconds())); err == nil {
			killed++
		}
		if !sick {
			good = release
		}
		status, reason, _ := strings.Cut(want, " ")
		h.ready(status, reason)
		h.eventually(good, good, good)
		h.noGuard()
		converged++
	}
	t.Logf("killed: %d of %d, converged: %d", killed, n, converged)
	if killed < n*9/10 {
		t.Errorf("only %d of %d agents were killed", killed, n)
	}
}
