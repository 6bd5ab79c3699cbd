package host_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler"
	"github.com/npcnix/npcnix/reconciler/transaction"
	"github.com/npcnix/npcnix/reconciler/window"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/document"
	"github.com/npcnix/npcnix/store/fault"
)

// happen makes an event happen.
func (s *sim) happen(e event) {
	length := time.Duration(e.N) * time.Minute
	switch e.Do {
	case doPublish:
		s.publish(e.With)
	case doDeclare:
		s.declare(e.With)
	case doRemoveSpec:
		s.declared = false
		s.remove("hosts/web.yaml")
	case doUploadAgain:
		if s.declared {
			s.put("hosts/web.yaml", s.specText)
		}
	case doAsk:
		s.askFor(e.With)
	case doAskLocally:
		s.askLocally(e.With)
	case doStoreAway:
		s.setStore(true)
		time.AfterFunc(length, func() { s.setStore(false) })
	case doStoreFlaky:
		s.setFlaky(e.N)
		time.AfterFunc(flakyFor, func() { s.setFlaky(0) })
	case doFault:
		s.faulty, s.faultEnds = e.With, time.Now().Add(length)
	case doKill:
		s.kill = e.N
	case doPowerCut:
		s.power = e.N
	case doReboot:
		s.powerCut()
	case doByHand:
		s.switchByHand()
	case doBootOther:
		s.bootOther()
	case doClockJump:
		s.setClock(length)
	case doClockBack:
		s.setClock(0)
	case doRestart:
		s.start()
	}
}

func (s *sim) remove(key string) {
	if err := s.store.Store.Delete(s.t.Context(), key); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sim) setStore(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.storeDown = down
	s.follow()
}

func (s *sim) setFlaky(nth int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flaky = nth
	s.follow()
}

// follow makes the store behave as it is said to.
func (s *sim) follow() {
	switch {
	case s.storeDown:
		s.store.Follow(fault.Always(fault.Fault{Err: errors.New("no route to host")}))
	case s.flaky > 0:
		s.store.Follow(flaky(s.flaky))
	default:
		s.store.Follow(nil)
	}
}

// flakyFor is how long a store is flaky.
const flakyFor = 4 * time.Hour

// flaky makes every nth request fail; every second of those is carried out all
// the same.
func flaky(nth int) fault.Script {
	n := 0
	return func(fault.Request) fault.Fault {
		if n++; n%nth != 0 {
			return fault.Fault{}
		}
		return fault.Fault{Err: errors.New("connection reset"), Done: n%(2*nth) == 0}
	}
}

func (s *sim) away() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.storeDown
}

// goDown reboots a machine that was told to, once it is time.
func (s *sim) goDown() {
	s.mu.Lock()
	due := !s.down.IsZero() && !time.Now().Before(s.down)
	s.mu.Unlock()
	if due {
		s.powerCut()
	}
}

// powerCut boots the machine anew, whatever it was about to do.
func (s *sim) powerCut() {
	s.machine.PowerCut()
	s.start()
}

func (s *sim) setClock(ahead time.Duration) {
	if !s.down.IsZero() { // a clock that is set tells nothing of when the machine was told to
		s.powerCut()
	}
	s.ahead = ahead
	s.store.Ahead(-ahead)
}

func (s *sim) askFor(what string) {
	switch what {
	case "suspend":
		s.override.Suspend = &v1alpha1.Suspend{Reason: "operator"}
	case "suspend for":
		s.override.Suspend = &v1alpha1.Suspend{Reason: "operator", Until: new(meta.NewTime(time.Now().Add(36 * time.Hour)))}
	case "retry":
		s.override.RetryRequestedAt = s.stamp()
		s.lift()
	case "reconcile":
		s.override.ReconcileRequestedAt = s.stamp()
	case "open":
		s.override.OpenWindowUntil = new(meta.NewTime(time.Now().Add(4 * time.Hour)))
	default:
		s.override = v1alpha1.HostOverrideSpec{RetryRequestedAt: s.override.RetryRequestedAt, ReconcileRequestedAt: s.override.ReconcileRequestedAt}
	}
	s.ask()
}

// lift asks for another try of everything, also of what is taken back before the
// request is seen.
func (s *sim) lift() {
	clear(s.taken)
	clear(s.tries)
	s.builds = 0
	s.lifting = true
}

func (s *sim) askLocally(what string) {
	var err error
	switch what {
	case "suspend":
		_, err = s.r.Suspend("on the spot", 0)
		s.local = true
	case "resume":
		_, err = s.r.Resume()
		s.local = false
	default:
		if what == "retry" {
			s.lift()
		}
		s.r.Ask(what == "retry")
	}
	if err != nil {
		s.fail("%s: %v", what, err)
	}
}

// older is the oldest system of the profile that is still there.
func (s *sim) older() string {
	for number := range int64(1000) {
		if path := s.machine.Generation(number); path != "" {
			return path
		}
	}
	return ""
}

// switchByHand is what a person does with nixos-rebuild, where nothing runs.
func (s *sim) switchByHand() {
	if path := s.older(); path != "" && !s.machine.Switching() {
		s.machine.Change(func(m *nixos.Machine) { m.Running, m.Profile, m.BootDefault = path, path, path })
	}
}

// bootOther is what a person does in the boot menu: the default stays.
func (s *sim) bootOther() {
	path, usual := s.older(), s.machine.State().BootDefault
	if path == "" {
		return
	}
	s.machine.Change(func(m *nixos.Machine) { m.BootDefault = path })
	s.machine.PowerCut()
	s.machine.Change(func(m *nixos.Machine) { m.BootDefault = usual })
	s.start()
}

// pass lets the agent look once; changed says that the machine or the status
// did.
func (s *sim) pass() (changed bool) {
	s.goDown()
	before, away := s.seen(), s.away()
	ctx, cancel := context.WithCancel(s.t.Context())
	restart := false
	s.machine.OnRestart = func() { restart = true; cancel() }
	_, err := reconciler.Once(ctx, s.r.Reconcile, "web")
	cancel()
	killed := errors.Is(err, reconciler.ErrPanic) && strings.Contains(err.Error(), errKilled.Error())
	if errors.Is(err, reconciler.ErrPanic) && !killed {
		s.fail("%v", err)
	}
	if s.cut.Swap(false) {
		s.machine.PowerCut()
		killed = true
	}
	if killed || restart {
		s.start()
	}
	now := s.seen()
	if err == nil && !killed && !restart {
		s.lifting = false
		if !away && !s.away() {
			s.checkStatus()
		}
	}
	return killed || restart || now != before
}

// seen is what can be seen of the host.
func (s *sim) seen() string {
	raw, err := document.Read(s.t.Context(), s.store.Store, store.StatusKey("web"), "")
	if err == nil && string(raw.Data) != s.status {
		s.status = string(raw.Data)
		s.changes++
	}
	return fmt.Sprint(s.machine.State(), s.status)
}

// firstPause grows while nothing happens: an agent that looks seldom decides no
// otherwise.
const firstPause = 5 * time.Minute

// mostPause is the longest time without a look: less than a window is long.
func (s *sim) mostPause() time.Duration {
	if s.spec.MaintenanceWindow != nil {
		return 2 * time.Hour
	}
	return 8 * time.Hour
}

// wait lets time pass.
func (s *sim) wait(d time.Duration) {
	began, pause := time.Now(), firstPause
	for end := began.Add(d); s.wrong == "" && time.Now().Before(end); {
		time.Sleep(min(pause, time.Until(end)))
		synctest.Wait()
		if pause = min(2*pause, s.mostPause()); s.pass() {
			pause = firstPause
		}
	}
	if hours := int(time.Since(began).Hours()); s.changes > 100+20*hours {
		s.fail("the status changed %d times in %d hours", s.changes, hours)
	}
}

// looks bounds those of look: what goes on for longer is waited for.
const looks = 12

// look lets the agent look until nothing changes.
func (s *sim) look() {
	quiet := 0
	for n := 0; n < looks && quiet < 2 && s.wrong == ""; n++ {
		if quiet++; s.pass() {
			quiet = 0
		}
		time.Sleep(time.Minute)
		synctest.Wait()
	}
}

// policy is what quarantine goes by, besides the system.
func (s *sim) policy() string {
	_, policy, _ := strings.Cut(s.specText, "rebuildPolicy")
	return policy
}

// begun looks at a run of stc that begins, whoever wants it.
func (s *sim) begun(a nixos.Activation) {
	if s.machine.Switching() {
		s.fail("two switches at once: %s", a.ID)
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
	if s.spec.MaintenanceWindow == nil {
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

// checkReady wants that a host that says it is Ready is so.
func (s *sim) checkReady(status *v1alpha1.HostStatus, ready *meta.Condition) {
	m := s.machine.State()
	at := func(what string) { s.fail("Ready lies (%s): %s; %+v", what, ready.Message, m) }
	switch o := status.Status.Observed; {
	case o.Remote == nil || o.Remote.Generation != s.generation:
		at("an older generation")
	case s.bug.serve == nil && (o.Spec == nil || o.Spec.Digest != s.specDigest || !s.declared):
		at("another spec")
	case ready.Reason == v1alpha1.ReasonBuiltOnly:
	case m.Running != s.newest:
		at("another system runs")
	case s.sick(s.newest):
		at("it is sick")
	case ready.Reason == v1alpha1.ReasonTested:
	case m.Profile != s.newest || m.BootDefault != s.newest:
		at("it is not permanent")
	}
}

// end lets everything be well again, and wants that the host is, too.
func (s *sim) end() {
	s.setStore(false)
	s.setFlaky(0)
	s.setClock(0)
	s.faultEnds, s.kill, s.power = time.Now(), 0, 0
	s.askLocally("resume")
	s.override = v1alpha1.HostOverrideSpec{RetryRequestedAt: s.stamp()}
	s.lift()
	s.ask()
	s.declare("")
	s.publish("")
	s.changes = 0
	for day := 0; day < 2 && s.wrong == ""; day++ {
		s.wait(24 * time.Hour)
		if strings.Contains(s.status, v1alpha1.ReasonRebootPending) { // a person does what the message says
			s.powerCut()
		}
	}
	m := s.machine.State()
	if s.wrong == "" && (m.Running != s.newest || m.Profile != s.newest || m.BootDefault != s.newest || !strings.Contains(s.status, `reason: UpToDate`)) {
		s.fail("it does not converge: %s", s.explain())
	}
	for key, n := range s.tries {
		if n > 6 {
			s.fail("%s was tried %d times, more often than it may", s.name(strings.TrimSuffix(key, s.policy())), n)
		}
	}
	if left := s.machine.Armed(); s.wrong == "" && len(left) > 0 {
		s.fail("guards are left: %v", left)
	}
}

// explain says how the host stands.
func (s *sim) explain() string {
	m := s.machine.State()
	text := fmt.Sprintf("%s runs, the profile is %s, the boot default %s, booted was %s; newest is %s", s.name(m.Running), s.name(m.Profile), s.name(m.BootDefault), s.name(m.Booted), s.name(s.newest))
	status, _, err := document.Get[v1alpha1.HostStatus](s.t.Context(), s.store.Store, store.StatusKey("web"), v1alpha1.KindHostStatus)
	if err != nil {
		return text
	}
	if c := meta.FindCondition(status.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		text += fmt.Sprintf("; %s %s: %s", c.Status, c.Reason, c.Message)
	}
	return text
}
