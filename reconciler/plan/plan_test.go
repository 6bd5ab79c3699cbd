package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/reconciler/window"
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

// anyWindow draws one that may be open: now is a Sunday, 10:00.
func anyWindow(t *rapid.T) *v1alpha1.MaintenanceWindow {
	if rapid.Bool().Draw(t, "no window") {
		return nil
	}
	hours := func(label string) *meta.Duration {
		return &meta.Duration{Duration: time.Duration(rapid.IntRange(1, 100).Draw(t, label)) * 5 * time.Minute}
	}
	w := &v1alpha1.MaintenanceWindow{TimeZone: "UTC", Allow: []v1alpha1.WindowEntry{{
		Name: "a", Start: fmt.Sprintf("%02d:00", rapid.IntRange(0, 23).Draw(t, "start")), Duration: hours("duration"),
	}}}
	if rapid.Bool().Draw(t, "gates") {
		w.Gates = []v1alpha1.Gate{rapid.SampledFrom([]v1alpha1.Gate{v1alpha1.GateBuild, v1alpha1.GateActivate, v1alpha1.GateReboot}).Draw(t, "gate")}
	}
	if rapid.Bool().Draw(t, "deny") {
		w.Deny = []v1alpha1.WindowEntry{{Name: "d", Start: "09:00", Duration: hours("denied")}}
	}
	if rapid.Bool().Draw(t, "splay") {
		w.Splay = hours("splay by")
	}
	return w
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
				Running: path(t, "running"), Profile: path(t, "profile"), Booted: path(t, "booted"),
				Reboot:      nixos.RebootNeed{Known: rapid.Bool().Draw(t, "known"), Changed: rapid.SampledFrom([]string{"", "kernel"}).Draw(t, "changed")},
				BootDefault: rapid.SampledFrom([]string{"", nixos.Unknown, "/nix/store/a", "/nix/store/b"}).Draw(t, "boot default"),
			},
		}
		if in.SpecProblem == nil || rapid.Bool().Draw(t, "last good spec") {
			grace := meta.Duration{Duration: time.Duration(rapid.IntRange(0, 3600).Draw(t, "grace")) * time.Second}
			action := rapid.SampledFrom([]v1alpha1.DriftAction{v1alpha1.DriftCorrect, v1alpha1.DriftReport}).Draw(t, "drift action")
			mode := rapid.SampledFrom([]v1alpha1.Mode{v1alpha1.ModeSwitch, v1alpha1.ModeSwitch, v1alpha1.ModeBoot, v1alpha1.ModeTest, v1alpha1.ModeBuild, v1alpha1.ModeDryActivate}).Draw(t, "mode")
			spec := v1alpha1.HostSpecSpec{Remote: "prod", MaintenanceWindow: anyWindow(t), RebuildPolicy: &v1alpha1.RebuildPolicy{
				Mode: mode, Drift: &v1alpha1.DriftPolicy{Action: action, Grace: &grace},
				DiskFull: rapid.SampledFrom([]v1alpha1.DiskFullAction{v1alpha1.DiskFullReport, v1alpha1.DiskFullGarbageCollect}).Draw(t, "disk full"),
				Reboot:   &v1alpha1.RebootPolicy{When: rapid.SampledFrom([]v1alpha1.RebootWhen{v1alpha1.RebootNever, v1alpha1.RebootIfRequired, v1alpha1.RebootAlways}).Draw(t, "reboot")},
			}}.WithDefaults("web")
			in.Spec, in.Window = &spec, window.New("web", spec.MaintenanceWindow)
			in.ClockSkewed = rapid.IntRange(0, 5).Draw(t, "skewed") == 0
		}
		if in.RemoteProblem == nil || rapid.Bool().Draw(t, "last good remote") {
			in.Remote = &v1alpha1.Remote{Metadata: meta.ObjectMeta{Name: "prod", Generation: 7}}
		}
		if rapid.IntRange(0, 3).Draw(t, "store") == 0 {
			in.StoreProblem = &plan.Problem{Reason: "StoreUnavailable", Message: "The store does not answer."}
		}
		if rapid.Bool().Draw(t, "gates") {
			in.Gates = &plan.Gates{OtherSwitch: rapid.SampledFrom([]string{"", "nixos-rebuild"}).Draw(t, "other switch"), AgentRemoved: rapid.Bool().Draw(t, "agent removed"), BootFull: rapid.Bool().Draw(t, "boot full"), Pruned: rapid.Bool().Draw(t, "pruned")}
		}
		if rapid.IntRange(0, 3).Draw(t, "suspended") == 0 {
			in.Suspended = &plan.Suspension{Reason: "INC-42"}
		}
		if rapid.Bool().Draw(t, "disk") {
			in.Disk = &plan.Disk{Free: int64(rapid.IntRange(0, 4).Draw(t, "free")) << 30, Collected: rapid.Bool().Draw(t, "collected")}
		}
		if rapid.Bool().Draw(t, "reboots") {
			in.Reboots = plan.Reboots{
				AllowedSince: instant(t, "allowed since"), Asked: rapid.Int32Range(0, 3).Draw(t, "asked"), AskedAt: instant(t, "asked at"),
				Within:   time.Duration(rapid.IntRange(0, 60).Draw(t, "within")) * time.Minute,
				Sessions: rapid.SampledFrom([][]string{nil, {"anna"}}).Draw(t, "sessions"),
			}
			if rapid.Bool().Draw(t, "announced") {
				in.Reboots.Announced = instant(t, "announced at")
			}
		}
		in.VainBoots = rapid.Int32Range(0, 3).Draw(t, "vain boots")
		if in.Spec != nil { // as its caller does
			in.Reboots = in.Reboots.Renew(now, in.Spec.RebuildPolicy.Reboot.Delay.Duration)
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

// plainSentence reports whether a text is made of sentences, whole ones.
func plainSentence(s string) bool {
	return s != "" && strings.ToUpper(s[:1]) == s[:1] && strings.HasSuffix(s, ".") && !strings.Contains(s, "  ") && !strings.Contains(s, "%!") && !strings.Contains(s, "0001-01-01")
}

// checkWindow wants that nothing gated starts outside its window, or without
// enough of it left.
func checkWindow(in plan.Input, d plan.Decision, fail func(what string)) {
	if in.Spec == nil || in.Spec.MaintenanceWindow == nil {
		return
	}
	gates := map[plan.Action]v1alpha1.Gate{
		plan.Build: v1alpha1.GateBuild, plan.Activate: v1alpha1.GateActivate, plan.Stage: v1alpha1.GateActivate, plan.Commit: v1alpha1.GateActivate,
		plan.Announce: v1alpha1.GateReboot, plan.Reboot: v1alpha1.GateReboot,
	}
	gate, gated := gates[d.Action]
	if in.Staged != "" && (d.Action == plan.Build || d.Action == plan.DryActivate) && !slices.Contains(in.Spec.MaintenanceWindow.Gates, gate) {
		gate, gated = v1alpha1.GateActivate, true // it takes back what is staged
	}
	if !gated || !slices.Contains(in.Spec.MaintenanceWindow.Gates, gate) {
		return
	}
	j := in.Window.At(in.Now)
	left, limit := j.ClosesAt.Sub(in.Now), window.Limits(*in.Spec)[gate]
	if d.Action == plan.Announce {
		limit += in.Spec.RebuildPolicy.Reboot.Delay.Duration
	}
	switch {
	case in.ClockSkewed:
		fail("acts by a clock that is off")
	case j.State == window.Closed:
		fail("acts outside the window")
	case !j.ClosesAt.IsZero() && left < limit:
		fail("acts without enough of the window left")
	}
}

// checkReboot wants that nothing reboots that must not.
func checkReboot(in plan.Input, d plan.Decision, fail func(what string)) {
	if d.Action != plan.Reboot && d.Action != plan.Announce {
		return
	}
	required, known := plan.RebootRequired(in)
	switch policy := in.Spec.RebuildPolicy.Reboot; {
	case policy.When == v1alpha1.RebootNever:
		fail("reboots although it never shall")
	case policy.When == v1alpha1.RebootIfRequired && (!required || !known):
		fail("reboots without need")
	case in.Unhealthy != "" && in.Machine.Runs(in.Desired) && in.Unproven != in.Desired:
		fail("reboots what is not healthy")
	case in.Quarantined != "":
		fail("reboots into what was taken back")
	case in.VainBoots >= plan.MostVainBoots:
		fail("reboots again into what was taken back again and again")
	case in.Reboots.Asked >= plan.MostAsked:
		fail("asks once more")
	case d.Action == plan.Announce && len(in.Reboots.Sessions) > 0 && in.Now.Before(in.Reboots.AllowedSince.Add(policy.Sessions.Postpone.Duration)):
		fail("announces it although somebody is logged in")
	case d.Action == plan.Reboot && (in.Reboots.Announced.IsZero() || in.Now.Before(in.Reboots.Announced.Add(policy.Delay.Duration))):
		fail("reboots before it was announced, or too early")
	case d.Action == plan.Reboot && in.Now.Sub(in.Reboots.Announced) > policy.Delay.Duration+10*time.Minute && in.Now.Sub(in.Reboots.AskedAt) > in.Reboots.Within+10*time.Minute:
		fail("reboots long after it was announced")
	}
}

// activates reports whether an act changes what runs or what will boot.
func activates(d plan.Decision) bool {
	return d.Action == plan.Activate || d.Action == plan.Stage || d.Action == plan.Commit
}

// tries reports whether an act is a try at the target.
func tries(d plan.Decision) bool {
	return activates(d) || d.Action == plan.Build || d.Action == plan.DryActivate
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

		if d.Reason == "" || !plainSentence(d.Message) {
			fail("no plain sentence")
		}
		checkWindow(in, d, fail)
		checkReboot(in, d, fail)
		if acts {
			switch f := in.Failure; {
			case in.Spec == nil || in.Remote == nil || in.RemoteProblem != nil:
				fail("acts without a declaration")
			case in.Suspended != nil:
				fail("acts while suspended")
			case in.StoreProblem != nil:
				fail("acts by documents that may be old")
			case !in.Reboots.AskedAt.IsZero() && !in.Now.Before(in.Reboots.AskedAt) && in.Now.Before(in.Reboots.AskedAt.Add(in.Reboots.Within)):
				fail("acts while the host goes down")
			case in.BootedOther != "":
				fail("acts against a person, or a boot counter")
			case d.Action == plan.Build && in.Disk != nil && in.Disk.Free < 2<<30:
				fail("builds without room")
			case (d.Action == plan.Activate || d.Action == plan.Stage) && in.Disk != nil && in.Disk.Free == 0:
				fail("activates without any room")
			case activates(d) && in.Quarantined != "":
				fail("acts with a target in quarantine")
			case activates(d) && in.Gates != nil && (in.Gates.OtherSwitch != "" || in.Gates.AgentRemoved || in.Gates.BootFull):
				fail("acts although a gate is closed")
			case d.Action == plan.Prune && (in.Gates == nil || !in.Gates.BootFull || in.Gates.Pruned || in.Gates.OtherSwitch != ""):
				fail("makes room on /boot without need, or too often")
			case (activates(d) || d.Action == plan.Reboot) && mode(in) == v1alpha1.ModeBuild:
				fail("activates although it shall only build")
			case d.Action == plan.Commit && mode(in) == v1alpha1.ModeTest:
				fail("makes permanent what shall only be tested")
			case d.Action == plan.Activate && mode(in) == v1alpha1.ModeBoot:
				fail("activates what shall only be booted")
			case in.Staged != "" && tries(d) && in.Gates != nil && in.Gates.OtherSwitch != "":
				fail("takes back what is staged while somebody else switches")
			case (d.Ready || d.Waiting) && d.Action != plan.Announce, d.Stalled: // who is told of a reboot finds the host as it was
				fail("acts and says that it does not")
			case tries(d) && f != nil && (f.Class == plan.BuildClass || f.Class == plan.ActivationClass) && in.Attempts >= 5:
				fail("acts beyond its retries")
			case tries(d) && f != nil && f.Class == plan.Permanent && f.Content == in.Content:
				fail("tries again what cannot work")
			case tries(d) && f != nil && f.Class != plan.Permanent && !in.Asked && in.Now.Before(f.NextAt) && f.NextAt.Sub(in.Now) <= time.Hour:
				fail("acts before its time")
			case f != nil && f.Class != plan.Permanent && in.Attempted && tries(d):
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
		"It failed.\nNot tried again until the spec or the remote changes, or until " + plan.ByWord + ".": func(in *plan.Input) {
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
