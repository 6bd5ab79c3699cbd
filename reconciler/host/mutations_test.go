package host_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// mutation is a mistake in the source of planner, agent or guard.
type mutation struct {
	name string
	// file, from this directory, has old once; the mistake is written in its place.
	file, old, made string
	// says are words of what the simulation says of it, one of them.
	says []string
}

func mutations() []mutation {
	return []mutation{
		{
			"the planner ignores windows", "../plan/gates.go",
			"if in.Window == nil {", "if true {",
			[]string{"outside its window"},
		},
		{
			"the planner trusts a clock that is wrong", "../plan/gates.go",
			"if in.ClockSkewed {", "if false {",
			[]string{"by a clock that is"},
		},
		{
			"the planner ignores suspensions", "../plan/plan.go",
			"case in.Suspended != nil:\n", "case false:\n",
			[]string{"suspended"},
		},
		{
			"the planner ignores quarantine", "../plan/plan.go",
			`case in.Quarantined != "" && d.activates():`, "case false:",
			[]string{"quarantine", "more often than it may"},
		},
		{
			"the planner tries for ever", "../plan/plan.go",
			"case counted && in.Attempts >= most:", "case false:",
			[]string{"what cannot be built was built"},
		},
		{
			"the planner reboots outside the window", "../plan/gates.go",
			"gate = v1alpha1.GateReboot", "gate = v1alpha1.GateBuild",
			[]string{"reboots outside its window"},
		},
		{
			"the planner takes a profile for the boot default", "../plan/plan.go",
			"return m.Profile == in.Desired && (m.BootDefault == in.Desired || m.BootDefault == nixos.Unknown)", "return m.Profile == in.Desired",
			[]string{"it is not permanent", "does not converge"},
		},
		{
			"the planner is Ready with what does not work", "../plan/plan.go",
			`case in.Unhealthy != "":`, "case false:",
			[]string{"Ready lies (it is sick)"},
		},
		{
			"the planner takes any act for a correction", "../plan/plan.go",
			"case in.drifted(d):", `case in.Committed != "" && in.Committed == in.Desired:`,
			[]string{"the status changed", "still on its way"},
		},
		{
			"what was taken back is forgotten", "conclude.go",
			"j.quarantine(quarantined{Toplevel: t.Plan.Target, Policy: t.Plan.Policy, Message: message})\n", "\n",
			[]string{"quarantine", "more often than it may"},
		},
		{
			"the commit does not wait for the confirmation", "switch.go",
			"return r.enter(phaseConfirming)", "return r.enter(phaseCommitting)",
			[]string{"is not confirmed"},
		},
		{
			"the checks do not count", "confirm.go",
			"case healthErr != nil:", "case false:",
			[]string{"is not confirmed"},
		},
		{
			"the rollback goes to what did not work", "../transaction/guard.go",
			"back := l.Plan.Recorded.Running\n\tresult", "back := l.Plan.Target\n\tresult",
			[]string{"taken back to"},
		},
		{
			"the guard leaves what did not work", "../transaction/guard.go",
			"case l.Plan.Rollback.OnFailure == v1alpha1.RollbackKeep && !l.has(committingFile):", "case true:",
			[]string{"is not taken back"},
		},
	}
}

// The simulation would tell: each of these mistakes is found in a few hundred
// histories, the same ones each time. They are compiled into agents of their own.
func TestMutationsAreSeen(t *testing.T) {
	t.Parallel()
	for _, m := range mutations() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			test := m.compile(t)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // a mistake may be that it never ends
			defer cancel()
			said, err := exec.CommandContext(ctx, test, "-test.run=^TestSimulation$/^shard_0$", "-rapid.seed=2", "-rapid.checks=2000", "-rapid.nofailfile", "-rapid.shrinktime=1ms").CombinedOutput()
			t.Log(regexp.MustCompile("failed after [0-9]+ tests.*").FindString(string(said)))
			switch {
			case err == nil:
				t.Error("nobody sees it")
			case !slices.ContainsFunc(m.says, func(s string) bool { return bytes.Contains(said, []byte(s)) }):
				t.Errorf("it says %s, and not any of %q", said, m.says)
			}
		})
	}
}

// compile compiles this package's tests with the mistake, and returns the program.
func (m mutation) compile(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		t.Fatalf("%s has %q %d times", m.file, m.old, n)
	}
	dir := t.TempDir()
	mistaken, overlay, test := filepath.Join(dir, "mistaken.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "host.test")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{path: mistaken}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{mistaken: strings.Replace(string(source), m.old, m.made, 1), overlay: string(replace)} {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", overlay, "-o", test, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return test
}
