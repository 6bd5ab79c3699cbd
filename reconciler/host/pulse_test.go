package host_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/host"
)

// A build of an hour is within its own limit; a step that hangs is not.
func TestPulse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &host.Pulse{}
		if step := p.Overdue(); step != "" {
			t.Errorf("%s is overdue before anything began", step)
		}
		p.Begin("build", 2*time.Hour)
		time.Sleep(time.Hour)
		if step := p.Overdue(); step != "" {
			t.Errorf("%s is overdue after half its limit", step)
		}
		time.Sleep(time.Hour)
		if step := p.Overdue(); step != "build" {
			t.Errorf("%q is overdue, want build", step)
		}
		p.Begin("observe spec", time.Minute)
		if step := p.Overdue(); step != "" {
			t.Errorf("%s is overdue as it begins", step)
		}
	})
}

// The limits of a transaction run on the monotonic clock.
func TestClockThatIsSetBackDuringASwitch(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.OnStart = func(nixos.Activation) (nixos.Result, bool) {
		w.now = w.now.AddDate(-1, 0, 0)
		return nixos.Result{Exited: true}, true
	}
	w.publish("web 2")
	w.pass()
	if m := w.machine.State(); m.Running != m.Profile || m.Profile != m.BootDefault {
		t.Errorf("machine %+v", m)
	}
	w.want("Ready", "True", "UpToDate", "generation 2")
}
