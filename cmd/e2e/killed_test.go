package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// kills is how many moments are tried; make soak asks for more.
func kills(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("NPCNIX_SOAK"))
	if err != nil {
		return 10
	}
	return n
}

// The agent is killed at a seeded moment of bringing a new system into force,
// and one that is started after it converges: nothing it left behind is in the
// way, nothing half done is taken for done.
func TestKilledAgentConvergesAfterRestart(t *testing.T) {
	t.Parallel()
	n, converged, interrupted := kills(t), 0, 0
	s := newSite(t, "file://"+filepath.Join(t.TempDir(), "store"))
	s.apply(spec("web-1"))
	s.publish(slow(s, 0))
	s.agent(0, "web-1")
	for seed := 1; seed <= n; seed++ {
		s.publish(slow(s, seed))
		random := rand.New(rand.NewPCG(uint64(seed), 0)) //nolint:gosec // seeded, to be repeated
		after := time.Duration(random.IntN(900)) * time.Millisecond
		if killAgent(t, s, after) {
			interrupted++
		}
		s.agent(0, "web-1")
		row := s.rows()["web-1"]
		motd, err := os.ReadFile(s.path("web-1/etc/motd"))
		if err == nil && row[0] == "True" && row[3] == strconv.Itoa(seed+1) && string(motd) == strconv.Itoa(seed)+"\n" {
			converged++
		} else {
			t.Errorf("seed %d, killed after %s: %v, motd %q, %v", seed, after, row, motd, err)
		}
	}
	t.Logf("killed: %d (%d before they were done), converged: %d", n, interrupted, converged)
	if interrupted < n/2 {
		t.Errorf("only %d of %d agents were killed before they were done", interrupted, n)
	}
}

// slow is a host whose build and activation take a while. The site's directory
// makes it a system that Nix has never built.
func slow(s *site, n int) string {
	return fmt.Sprintf(`{ motd = "%d"; build = "sleep 0.3 # %s"; activation = "sleep 0.3"; }`, n, s.dir)
}

// killAgent starts an agent and kills it after a while; early says that it had
// not ended by itself.
func killAgent(t *testing.T, s *site, after time.Duration) (early bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), after)
	defer cancel()
	cmd := s.command(ctx, "npcnix-reconciler", "--once", "--host", "web-1", "--root", s.path("web-1"))
	var log bytes.Buffer
	cmd.Stderr = &log
	err := cmd.Run()
	if err != nil && ctx.Err() == nil {
		t.Fatalf("agent: %v\n%s", err, &log)
	}
	return err != nil
}
