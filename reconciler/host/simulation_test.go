package host_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// history is what happens to a host over some virtual months.
type history struct{ Events []event }

// event is something that happens, some time after what happened before.
type event struct {
	After time.Duration
	Do    string
	With  string
	// N is a number that some of them need.
	N int
}

// String is what a failing history is printed as.
func (h history) String() string {
	var b strings.Builder
	for _, e := range h.Events {
		_, _ = fmt.Fprintf(&b, "%8s  %s %s", e.After, e.Do, e.With)
		if e.N != 0 {
			_, _ = fmt.Fprintf(&b, " %d", e.N)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// What can happen, and with what.
const (
	doPublish     = "publish"      // a flake of these words
	doDeclare     = "declare"      // a HostSpec with these fields
	doAsk         = "ask"          // a HostOverride with these fields
	doAskLocally  = "ask locally"  // a person on the host
	doStoreAway   = "store away"   // for so many minutes
	doStoreFlaky  = "store flaky"  // every nth request fails
	doFault       = "faulty"       // an act of the machine fails, for so many minutes
	doKill        = "dies"         // the agent or guard, at its nth act
	doPowerCut    = "loses power"  // the host, at the agent's nth act
	doReboot      = "reboots"      // somebody doReboot it
	doByHand      = "by hand"      // somebody switches it to an older generation
	doClockJump   = "clock jumps"  // by so many minutes
	doClockBack   = "clock back"   // to what it was
	doBootOther   = "boots other"  // the boot menu is used
	doRestart     = "restarts"     // the agent
	doRemoveSpec  = "remove spec"  // the HostSpec is deleted
	doBreakSpec   = "break spec"   // it becomes one that is not understood
	doSpoil       = "spoil"        // what is published has another archive than it says
	doUploadAgain = "upload again" // equal content
)

// States of the machine, told like faults.
const (
	slowReboot = "slow reboot" // it takes its time
	loggedIn   = "logged in"   // somebody is
)

// nightly is a host that changes at night alone.
const nightly = `maintenanceWindow: {timeZone: Europe/Berlin, allow: [{name: nights, days: [Mon, Wed], start: "22:00", duration: 6h}]}`

// nightlyReboots is a host that reboots at night alone.
const nightlyReboots = `maintenanceWindow: {timeZone: Europe/Berlin, gates: [Reboot], allow: [{name: nights, start: "22:00", duration: 6h}]}
  rebuildPolicy: {reboot: {when: IfRequired, delay: 5m}}`

// choices are what an event can be made of, each as often as it stands there.
func choices() map[string][]string {
	return map[string][]string{
		doPublish: {
			"", "", "", "kernel:1", "kernel:2", "sick", "fails:x.service", "inhibits:1", "inhibits:2", "no-agent", "no-stc", "takes:5m", "takes:20m",
			"unbuildable", "nonsense", "sick kernel:2", "sick inhibits:2", "sickboot kernel:2",
		},
		doDeclare: {
			"", "", "rebuildPolicy: {mode: Boot}", "rebuildPolicy: {mode: Test}", "rebuildPolicy: {mode: Build}",
			"rebuildPolicy: {reboot: {when: IfRequired}}", "rebuildPolicy: {reboot: {when: Always, delay: 10m}}",
			"rebuildPolicy: {drift: {action: Report}}", "rebuildPolicy: {rollback: {onStoreLost: Keep}}",
			"rebuildPolicy: {retry: {maxAttempts: 2}}", "suspend: {reason: git}", "rebuildPolicy: {mode: DryActivate}",
			"rebuildPolicy: {diskFull: GarbageCollect, retention: {generations: 2}}", "rebuildPolicy: {rollback: {lastResort: Reboot}}", "rebuildPolicy: {rollback: {onFailure: Keep}}",
			nightlyReboots, nightlyReboots,
			nightly, nightly,
			`maintenanceWindow: {timeZone: Europe/Berlin, splay: 1h, gates: [Build, Activate, Reboot], allow: [{name: nights, start: "02:30", duration: 3h}], deny: [{name: sundays, days: [Sun], start: "00:00", duration: 24h}]}`,
		},
		doAsk:        {"{}", "{}", "suspend", "suspend for", "retry", "reconcile", "open"},
		doAskLocally: {"suspend", "resume", "reconcile", "retry"},
		doStoreAway:  {""}, doFault: {"profile", "start boot", "start test", "await test", "build", "arm", "full boot", "full disk", "reboot", "sessions", slowReboot, slowReboot, loggedIn},
		doStoreFlaky: {""},
		doKill:       {""}, doPowerCut: {""}, doReboot: {""}, doByHand: {"", "boot default"}, doClockJump: {""}, doClockBack: {""}, doBootOther: {""}, doRestart: {""}, doRemoveSpec: {""}, doUploadAgain: {""}, doBreakSpec: {""}, doSpoil: {"", "kernel:2"},
	}
}

// histories draws one. What happens often stands there often.
func histories() *rapid.Generator[history] {
	often := []string{
		doPublish, doPublish, doPublish, doPublish, doPublish, doDeclare, doDeclare, doAsk, doAskLocally, doStoreAway, doStoreFlaky, doFault, doKill, doKill, doPowerCut, doReboot, doByHand,
		doClockJump, doClockJump, doClockBack, doBootOther, doRestart, doRemoveSpec, doUploadAgain, doBreakSpec, doSpoil,
	}
	with := choices()
	return rapid.Custom(func(t *rapid.T) history {
		var h history
		for i := range rapid.IntRange(2, 7).Draw(t, "events") {
			e := event{Do: rapid.SampledFrom(often).Draw(t, "do")}
			if i == 0 && rapid.Bool().Draw(t, "under a policy") { // what follows meets it
				e.Do = doDeclare
			}
			e.With = rapid.SampledFrom(with[e.Do]).Draw(t, "with")
			e.After = time.Duration(rapid.SampledFrom([]int{0, 1, 10, 60, 600, 1440, 7 * 1440, 30 * 1440}).Draw(t, "after")) * time.Minute
			switch e.Do {
			case doStoreAway, doFault:
				e.N = rapid.SampledFrom([]int{5, 30, 300, 3000}).Draw(t, "minutes")
			case doStoreFlaky:
				e.N = rapid.IntRange(2, 7).Draw(t, "nth")
			case doKill, doPowerCut:
				e.N = rapid.IntRange(1, 14).Draw(t, "act")
			case doClockJump:
				e.N = rapid.SampledFrom([]int{-525600, -600, -1, 1, 3, 600}).Draw(t, "by")
			}
			h.Events = append(h.Events, e)
		}
		return h
	})
}

// Whatever happens to a host over months, what must never be is never seen, and
// when it is over, the host runs what is declared. A history in which that does
// not hold is printed, made smaller, and kept to be replayed.
func TestSimulation(t *testing.T) {
	t.Parallel()
	for shard := range 4 {
		t.Run(fmt.Sprintf("shard %d", shard), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				h := histories().Draw(rt, "history")
				if wrong := simulate(t, h); wrong != "" {
					rt.Fatalf("%s\n%s", wrong, h)
				}
			})
		})
	}
}
