package plan_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/plan"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// path draws one of few systems, so that they often meet.
func path(t *rapid.T, label string) string {
	return rapid.SampledFrom([]string{"", "/nix/store/a", "/nix/store/b", "/nix/store/c"}).Draw(t, label)
}

func problem(t *rapid.T, label string) *plan.Problem {
	if !rapid.Bool().Draw(t, label) {
		return nil
	}
	return &plan.Problem{Reason: "Problem", Message: "A problem.", Stalled: rapid.Bool().Draw(t, label+" stalled")}
}

func instant(t *rapid.T, label string) time.Time {
	return now.Add(time.Duration(rapid.IntRange(-7200, 7200).Draw(t, label)) * time.Second)
}

// inputs draws everything that a host can meet.
func inputs() *rapid.Generator[plan.Input] {
	return rapid.Custom(func(t *rapid.T) plan.Input {
		in := plan.Input{
			Now: now, SpecProblem: problem(t, "spec problem"), RemoteProblem: problem(t, "remote problem"),
			Desired: path(t, "desired"), Content: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "content"),
			Committed: path(t, "committed"), Unproven: path(t, "unproven"),
			Unhealthy:   rapid.SampledFrom([]string{"", "nginx failed"}).Draw(t, "unhealthy"),
			Quarantined: rapid.SampledFrom([]string{"", "It was taken back."}).Draw(t, "quarantined"),
			BootedOther: rapid.SampledFrom([]string{"", "It booted another."}).Draw(t, "booted other"),
			Staged:      path(t, "staged"), Dry: path(t, "dry"),
			Attempts: rapid.Int32Range(0, 6).Draw(t, "attempts"),
			Asked:    rapid.Bool().Draw(t, "asked"), Attempted: rapid.Bool().Draw(t, "attempted"),
			Machine: nixos.Machine{
				Running: path(t, "running"), Profile: path(t, "profile"),
				BootDefault: rapid.SampledFrom([]string{"", nixos.Unknown, "/nix/store/a", "/nix/store/b"}).Draw(t, "boot default"),
			},
		}
		if in.SpecProblem == nil || rapid.Bool().Draw(t, "last good spec") {
			grace := meta.Duration{Duration: time.Duration(rapid.IntRange(0, 3600).Draw(t, "grace")) * time.Second}
			action := rapid.SampledFrom([]v1alpha1.DriftAction{v1alpha1.DriftCorrect, v1alpha1.DriftReport}).Draw(t, "drift action")
			mode := rapid.SampledFrom([]v1alpha1.Mode{v1alpha1.ModeSwitch, v1alpha1.ModeSwitch, v1alpha1.ModeBoot, v1alpha1.ModeTest, v1alpha1.ModeBuild, v1alpha1.ModeDryActivate}).Draw(t, "mode")
			spec := v1alpha1.HostSpecSpec{Remote: "prod", RebuildPolicy: &v1alpha1.RebuildPolicy{Mode: mode, Drift: &v1alpha1.DriftPolicy{Action: action, Grace: &grace}}}.WithDefaults("web")
			in.Spec = &spec
		}
		if in.RemoteProblem == nil || rapid.Bool().Draw(t, "last good remote") {
			in.Remote = &v1alpha1.Remote{Metadata: meta.ObjectMeta{Name: "prod", Generation: 7}}
		}
		if rapid.IntRange(0, 3).Draw(t, "store") == 0 {
			in.StoreProblem = &plan.Problem{Reason: "StoreUnavailable", Message: "The store does not answer."}
		}
		if rapid.Bool().Draw(t, "gates") {
			in.Gates = &plan.Gates{OtherSwitch: rapid.SampledFrom([]string{"", "nixos-rebuild"}).Draw(t, "other switch"), AgentRemoved: rapid.Bool().Draw(t, "agent removed")}
		}
		if rapid.Bool().Draw(t, "suspended") {
			in.Suspended = &plan.Suspension{Reason: "INC-42"}
		}
		if rapid.Bool().Draw(t, "failed") {
			in.Failure = &plan.Failure{
				Class:  rapid.SampledFrom([]plan.Class{plan.Transient, plan.BuildClass, plan.ActivationClass, plan.Permanent}).Draw(t, "class"),
				Reason: "Failed", Message: "It failed.", Content: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "failed content"), NextAt: instant(t, "next at"),
			}
		}
		if rapid.Bool().Draw(t, "drifting") {
			in.DriftSince = instant(t, "drift since")
		}
		return in
	})
}

func mode(in plan.Input) v1alpha1.Mode { return in.Spec.RebuildPolicy.Mode }

// Whatever a host meets: it never acts where it must not, always says why not,
// and when it looks again or that it waits for a change.
func TestDecisions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := inputs().Draw(t, "in")
		d := plan.Decide(in)
		fail := func(what string) { t.Fatalf("%s\n%+v\n%+v", what, d, in) }
		acts := d.Action != plan.None

		if d.Reason == "" || d.Message == "" {
			fail("no reason")
		}
		if acts {
			switch f := in.Failure; {
			case in.Spec == nil || in.Remote == nil || in.RemoteProblem != nil:
				fail("acts without a declaration")
			case in.Suspended != nil:
				fail("acts while suspended")
			case in.StoreProblem != nil:
				fail("acts by documents that may be old")
			case in.BootedOther != "":
				fail("acts against a person, or a boot counter")
			case d.Action != plan.Build && d.Action != plan.DryActivate && in.Quarantined != "":
				fail("acts with a target in quarantine")
			case d.Action != plan.Build && d.Action != plan.DryActivate && in.Gates != nil && (in.Gates.OtherSwitch != "" || in.Gates.AgentRemoved):
				fail("acts although a gate is closed")
			case d.Action != plan.Build && d.Action != plan.DryActivate && mode(in) == v1alpha1.ModeBuild:
				fail("activates although it shall only build")
			case d.Action == plan.Commit && mode(in) == v1alpha1.ModeTest:
				fail("makes permanent what shall only be tested")
			case d.Action == plan.Activate && mode(in) == v1alpha1.ModeBoot:
				fail("activates what shall only be booted")
			case d.Ready || d.Stalled || d.Waiting:
				fail("acts and says that it does not")
			case f != nil && (f.Class == plan.BuildClass || f.Class == plan.ActivationClass) && in.Attempts >= 5:
				fail("acts beyond its retries")
			case f != nil && f.Class == plan.Permanent && f.Content == in.Content:
				fail("tries again what cannot work")
			case f != nil && f.Class != plan.Permanent && !in.Asked && in.Now.Before(f.NextAt) && f.NextAt.Sub(in.Now) <= time.Hour:
				fail("acts before its time")
			case f != nil && f.Class != plan.Permanent && in.Attempted:
				fail("tries twice in one call")
			}
		}
		only := d.Ready && (mode(in) == v1alpha1.ModeBuild || mode(in) == v1alpha1.ModeDryActivate) // Ready is about what runs
		if d.Ready && (in.Desired == "" || in.SpecProblem != nil || in.StoreProblem != nil || in.Unhealthy != "" ||
			(!only && (!in.Machine.Runs(in.Desired) || in.Unproven == in.Desired)) ||
			(!only && mode(in) != v1alpha1.ModeTest && (in.Machine.Profile != in.Desired ||
				(in.Machine.BootDefault != in.Desired && in.Machine.BootDefault != nixos.Unknown)))) {
			fail("Ready lies")
		}
		if (d.Stalled && (d.Ready || d.Waiting)) || (d.Waiting && d.Ready) {
			fail("says two things")
		}
		if d.Action == plan.Commit && (!in.Machine.Runs(in.Desired) || in.Unproven == in.Desired) {
			fail("commits what does not run")
		}
		// It looks again at a time, waits for a change, or for a document that
		// each look asks for.
		asked := in.StoreProblem != nil || in.SpecProblem != nil || in.RemoteProblem != nil
		if !acts && d.NextAt.IsZero() && !d.Ready && !d.Stalled && !d.Waiting && !asked {
			fail("neither looks again nor waits for a change")
		}
		if !d.NextAt.IsZero() && !in.Attempted && !in.Asked && !d.NextAt.After(in.Now) {
			fail("waits for the past")
		}
	})
}

func TestBackoffDoublesUpToItsMaximum(t *testing.T) {
	t.Parallel()
	policy := v1alpha1.RebuildPolicy{}.WithDefaults().Retry
	for n, want := range map[int32]time.Duration{1: 30 * time.Second, 2: time.Minute, 3: 2 * time.Minute, 7: 32 * time.Minute, 8: time.Hour, 1000: time.Hour} {
		if got := plan.Backoff(policy, n); got != want {
			t.Errorf("delay %d is %s, want %s", n, got, want)
		}
	}
}

func TestPollFollowsTheAge(t *testing.T) {
	t.Parallel()
	interval := v1alpha1.HostSpecSpec{}.WithDefaults("").PollInterval
	for age, want := range map[time.Duration]time.Duration{
		-time.Hour: 5 * time.Second, 0: 5 * time.Second, 5 * time.Minute: 30 * time.Second, 20 * time.Minute: 2 * time.Minute, 1000 * time.Hour: 2 * time.Minute,
	} {
		if got := plan.Poll(interval, age); got != want {
			t.Errorf("after %s the next look is in %s, want %s", age, got, want)
		}
	}
}

func TestSentencesForPeople(t *testing.T) {
	t.Parallel()
	spec := v1alpha1.HostSpecSpec{Remote: "prod"}.WithDefaults("web")
	base := plan.Input{
		Now: now, Spec: &spec, Desired: "/nix/store/a", Content: "x",
		Remote: &v1alpha1.Remote{Metadata: meta.ObjectMeta{Name: "prod", Generation: 42}, Spec: v1alpha1.RemoteSpec{Source: &v1alpha1.Source{Revision: "9f3c1a2b7e01d4c5", Dirty: true}}},
	}
	for want, change := range map[string]func(in *plan.Input){
		"Building generation 42 of prod (9f3c1a2b7e01-dirty).":                                                func(in *plan.Input) { in.Desired = "" },
		"Activating generation 42 of prod (9f3c1a2b7e01-dirty).":                                              func(*plan.Input) {},
		"Suspended by its HostOverride (INC-42); generation 42 of prod (9f3c1a2b7e01-dirty) is not in force.": func(in *plan.Input) { in.Suspended = &plan.Suspension{By: "by its HostOverride", Reason: "INC-42"} },
		"Suspended until 2026-11-22T10:00:00Z; generation 42 of prod (9f3c1a2b7e01-dirty) is not in force.":   func(in *plan.Input) { in.Suspended = &plan.Suspension{Until: now} },
		"The host was changed by hand: it runs no known system instead of /nix/store/a. It will be corrected at 2026-11-22T10:15:00Z.": func(in *plan.Input) {
			in.Committed = in.Desired
		},
		"It failed.\nThe next attempt is due at 2026-11-22T11:00:00Z.": func(in *plan.Input) {
			in.Failure = &plan.Failure{Class: plan.Transient, Reason: "X", Message: "It failed.", NextAt: now.Add(time.Hour)}
		},
		"It failed.\nNot tried again until the spec or the remote changes.": func(in *plan.Input) {
			in.Failure = &plan.Failure{Class: plan.Permanent, Reason: "X", Message: "It failed.", Content: "x"}
		},
	} {
		in := base
		change(&in)
		if got := plan.Decide(in); got.Message != want {
			t.Errorf("%q, want %q", got.Message, want)
		}
	}
}

func ExampleDecide() {
	spec := v1alpha1.HostSpecSpec{Remote: "prod"}.WithDefaults("web")
	d := plan.Decide(plan.Input{
		Spec: &spec, Desired: "/nix/store/a", Committed: "/nix/store/a",
		Remote:  &v1alpha1.Remote{Metadata: meta.ObjectMeta{Name: "prod", Generation: 42}},
		Machine: nixos.Machine{Running: "/nix/store/a", Profile: "/nix/store/a", BootDefault: nixos.Unknown},
	})
	fmt.Println(d.Action, d.Ready, d.Message)
	// Output: None true Runs generation 42 of prod.
}
