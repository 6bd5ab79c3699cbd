package host_test

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler/transaction"
	"github.com/npcnix/npcnix/reconciler/window"
)

// What must never be, whatever happens to a host.

// begun looks at a run of stc that begins, whoever wants it.
func (s *sim) begun(a nixos.Activation) {
	if s.machine.Switching() {
		s.fail("two switches at once: %s", a.ID)
	}
	if a.Action == nixos.ActionBoot {
		s.permanent("boot default", a.Toplevel)
	}
	id, _, _ := strings.Cut(a.ID, "-"+what(a.ID))
	t, err := transaction.Open(transaction.Dir(s.state, id))
	if err != nil {
		return // dry-activate has none
	}
	switch what(a.ID) {
	case transaction.SwitchRun:
		s.activating(t)
	case "rollback":
		if a.Toplevel != t.Plan.Recorded.Running {
			s.fail("taken back to %s instead of %s", s.name(a.Toplevel), s.name(t.Plan.Recorded.Running))
		}
		if s.sick(t.Plan.Target) && !s.away() && !s.lifting {
			s.taken[cmp.Or(s.keys[t.Plan.ID], t.Plan.Target+s.policy())] = true
		}
	}
}

// name is a system's flake.
func (s *sim) name(toplevel string) string {
	if flake := s.flakes[toplevel]; flake != "" {
		return fmt.Sprintf("%q", flake)
	}
	return toplevel
}

// activating wants that a target may be activated now.
func (s *sim) activating(t *transaction.Transaction) {
	key, target := t.Plan.Target+s.policy(), s.name(t.Plan.Target)
	s.keys[t.Plan.ID] = key
	s.tries[key]++
	switch m := s.machine.State(); {
	case m.Profile != t.Plan.Recorded.Profile:
		s.fail("the profile is %s while %s is activated, which is not confirmed", s.name(m.Profile), target)
	case s.away():
		s.fail("%s is activated while the store is away", target)
	case !s.down.IsZero():
		s.fail("%s is activated while the host goes down", target)
	case !s.declared:
		s.fail("%s is activated, and nothing is declared", target)
	case s.suspended():
		s.fail("%s is activated while the host is suspended", target)
	case s.taken[key]:
		s.fail("%s is activated from quarantine", target)
	case s.spec.RebuildPolicy.Mode != v1alpha1.ModeSwitch && s.spec.RebuildPolicy.Mode != v1alpha1.ModeTest:
		s.fail("%s is activated in mode %s", target, s.spec.RebuildPolicy.Mode)
	case t.Plan.Target != s.newest:
		s.fail("%s is activated, and %s is the newest", target, s.name(s.newest))
	}
	s.inWindow(target)
}

// transactions are those that have not ended.
func (s *sim) transactions() []*transaction.Transaction {
	var open []*transaction.Transaction
	dirs, _ := filepath.Glob(filepath.Join(s.state, "transactions/*"))
	for _, dir := range dirs {
		t, err := transaction.Open(dir)
		if err != nil {
			continue // it is being made, or was set aside
		}
		if _, ended, err := t.Outcome(); err == nil && !ended {
			open = append(open, t)
		}
	}
	return open
}

// permanent wants of what becomes the profile's, or the boot default, that it is
// confirmed, or waits for the boot that confirms it, or was so before.
func (s *sim) permanent(what, toplevel string) {
	m := s.machine.State()
	if what != "profile" && (toplevel == m.Profile || toplevel == m.BootDefault) { // which was looked at then, or is a person's
		return
	}
	confirmed := m.Running == toplevel && !s.sick(toplevel)
	for _, t := range s.transactions() {
		back, _ := t.Plan.GoesBack()
		if back == t.Plan.Target && !t.Plan.Mend {
			s.fail("%s is gone back to from itself", s.name(back))
		}
		if toplevel == back || (toplevel == t.Plan.Target && (confirmed || t.AwaitedBoot())) {
			return
		}
	}
	s.fail("%s is made the %s, and is not confirmed", s.name(toplevel), what)
}

// mostSick is how often an agent may look at a system that does not work without
// having it taken back. Faults of the machine may hold it up.
const mostSick = 3

// checkMachine wants that no system stays that does not work, whatever the
// window, the store and suspensions say: a rollback is never held back.
func (s *sim) checkMachine(died bool) {
	m := s.machine.State()
	told := strings.Contains(s.status, "bootDefaultUncertain: true")
	if s.sick(m.Profile) && !told && !slices.ContainsFunc(s.transactions(), (*transaction.Transaction).AwaitedBoot) {
		s.fail("%s is the profile's, and does not work", s.name(m.Profile))
	}
	switch {
	case !s.sick(m.Running) || s.keeps || died || time.Now().Before(s.faultEnds):
		s.sickLooks = 0
	case s.sickLooks >= mostSick:
		s.fail("%s runs, does not work, and is not taken back", s.name(m.Running))
	default:
		s.sickLooks++
	}
}

func (s *sim) suspended() bool {
	active := func(by *v1alpha1.Suspend) bool {
		return by != nil && (by.Until == nil || time.Now().Before(by.Until.Time))
	}
	return s.local || active(s.spec.Suspend) || active(s.override.Suspend)
}

// rebooting wants that the policy may reboot the host now.
func (s *sim) rebooting() {
	closed := func(at time.Time) bool { return s.calendar().At(at).State == window.Closed }
	switch gates := s.spec.MaintenanceWindow; {
	case s.away():
		s.fail("the host reboots while the store is away")
	case !s.declared:
		s.fail("the host reboots, and nothing is declared")
	case s.broken:
		s.fail("the host reboots, and its HostSpec is invalid")
	case s.suspended():
		s.fail("the host reboots while it is suspended")
	case s.spec.RebuildPolicy.Reboot.When == v1alpha1.RebootNever:
		s.fail("the host reboots, and never shall")
	case gates != nil && slices.Contains(gates.Gates, v1alpha1.GateReboot) && closed(time.Now()) && closed(s.now()):
		s.fail("the host reboots outside its window")
	}
}

// building counts the builds of what cannot be built. An agent that is killed
// does not count its own.
func (s *sim) building() {
	s.builds++
	if most := int(*s.spec.RebuildPolicy.Retry.MaxAttempts); s.builds > most+2 && !s.lifting {
		s.fail("what cannot be built was built %d times of %d", s.builds, most)
	}
}

// inWindow wants that the window is open, with enough of it left; a clock that
// is a little off may be wrong by that.
func (s *sim) inWindow(target string) {
	if w := s.spec.MaintenanceWindow; w == nil || !slices.Contains(w.Gates, v1alpha1.GateActivate) {
		return
	}
	const off = 2 * time.Minute
	j := s.calendar().At(time.Now())
	limit := window.Limits(s.spec)[v1alpha1.GateActivate]
	switch {
	case s.ahead.Abs() > off:
		s.fail("%s is activated by a clock that is %s off", target, s.ahead)
	case j.State == window.Closed && s.calendar().At(time.Now().Add(s.ahead)).State == window.Closed:
		s.fail("%s is activated outside its window: %+v", target, j)
	case !j.ClosesAt.IsZero() && time.Until(j.ClosesAt) < limit-2*off:
		s.fail("%s is activated with %s left outside its window", target, time.Until(j.ClosesAt))
	}
	for _, o := range s.calendar().Openings(time.Now(), 1, limit) {
		if early := time.Until(o.StartsAt); !o.StartsAt.IsZero() && j.State == window.Open && early > off {
			s.fail("%s is activated %s before the host's own part of its window", target, early)
		}
	}
}

// checkStatus wants that what the host says of itself is so.
func (s *sim) checkStatus() {
	if s.decoded.text != s.status {
		status, err := codec.DecodeLenient[v1alpha1.HostStatus](codec.Document{Source: "status", Raw: []byte(s.status)}, v1alpha1.KindHostStatus)
		if err != nil {
			s.fail("status: %v", err)
			return
		}
		s.decoded.text, s.decoded.status = s.status, status
	}
	status := s.decoded.status
	if status == nil {
		return // it has none yet
	}
	for _, c := range status.Status.Conditions {
		if wrong := unplain(c); wrong != "" {
			s.fail("condition %s %s: %s: %q", c.Type, c.Reason, wrong, c.Message)
		}
	}
	ready := meta.FindCondition(status.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case ready == nil:
		s.fail("no condition Ready")
	case ready.Status == meta.True:
		s.checkReady(status, ready)
	case ready.Message == "" || ready.Reason == "" || (ready.Reason == v1alpha1.ReasonInternalError && time.Now().After(s.faultEnds)):
		s.fail("not Ready: %s %s", ready.Reason, ready.Message)
	}
}

// checkSettled wants of a host with which nothing has happened for a day that it is
// on no way any more. A window may still hold it up.
func (s *sim) checkSettled() {
	if s.decoded.status == nil {
		return
	}
	ready := meta.FindCondition(s.decoded.status.Status.Conditions, v1alpha1.ConditionReady)
	switch reason := ready.Reason; {
	case slices.Contains([]string{v1alpha1.ReasonProgressing, v1alpha1.ReasonInterrupted, v1alpha1.ReasonRebooting, v1alpha1.ReasonSwitchActive, v1alpha1.ReasonInternalError}, reason),
		reason == v1alpha1.ReasonDrifted && s.spec.RebuildPolicy.Drift.Action == v1alpha1.DriftCorrect && s.spec.MaintenanceWindow == nil:
		s.fail("a day later it is still on its way: %s %s", reason, ready.Message)
	}
}

// checkReady wants that a host that says it is Ready is so.
func (s *sim) checkReady(status *v1alpha1.HostStatus, ready *meta.Condition) {
	m := s.machine.State()
	at := func(what string) { s.fail("Ready lies (%s): %s; %+v", what, ready.Message, m) }
	switch o := status.Status.Observed; {
	case s.broken:
		at("an invalid spec")
	case o.Remote == nil || o.Remote.Generation != s.generation:
		at("an older generation")
	case o.Spec == nil || o.Spec.Digest != s.specDigest || !s.declared:
		at("another spec")
	case ready.Reason == v1alpha1.ReasonBuiltOnly:
	case m.Running != s.newest:
		at("another system runs")
	case s.sick(s.newest), s.probe("") != nil:
		at("it is sick")
	case ready.Reason == v1alpha1.ReasonTested:
	case m.Profile != s.newest || m.BootDefault != s.newest:
		at("it is not permanent")
	}
}
