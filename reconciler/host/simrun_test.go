package host_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing/synctest"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler"
	"github.com/npcnix/npcnix/store"
	"github.com/npcnix/npcnix/store/document"
	"github.com/npcnix/npcnix/store/fault"
)

// happen makes an event happen.
func (s *sim) happen(e event) {
	length := time.Duration(e.N) * time.Minute
	s.trouble = time.Now()
	switch e.Do {
	case doPublish:
		s.publish(e.With)
	case doDeclare:
		s.declare(e.With)
	case doSpoil:
		s.publish(e.With)
		s.put(store.ArchiveKey(s.archive), "not what the remote says")
	case doRemoveSpec:
		s.declared, s.broken = false, false
		s.remove("hosts/web.yaml")
	case doBreakSpec:
		if s.broken = s.declared; s.declared {
			s.put("hosts/web.yaml", s.specText+"  nonsense: 1\n")
		}
	case doUploadAgain:
		if s.broken = false; s.declared {
			s.put("hosts/web.yaml", s.specText)
		}
	case doAsk:
		s.askFor(e.With)
	case doAskLocally:
		s.askLocally(e.With)
	case doStoreAway:
		s.setStore(true)
		s.trouble = time.Now().Add(length)
		time.AfterFunc(length, func() { s.setStore(false) })
	case doStoreFlaky:
		s.setFlaky(e.N)
		time.AfterFunc(flakyFor, func() { s.setFlaky(0) })
	case doFault:
		s.faulty, s.faultEnds, s.trouble = e.With, time.Now().Add(length), time.Now().Add(length)
	case doKill:
		s.kill = e.N
	case doPowerCut:
		s.power = e.N
	case doReboot:
		s.powerCut()
	case doByHand:
		s.switchByHand(e.With != "")
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

// older is the oldest system of the profile that is still there and works.
func (s *sim) older() string {
	for number := range int64(1000) {
		if path := s.machine.Generation(number); path != "" && !s.sick(path) {
			return path
		}
	}
	return ""
}

// switchByHand is what a person does with nixos-rebuild, or to the boot default
// alone, where nothing runs.
func (s *sim) switchByHand(bootDefault bool) {
	path := s.older()
	if path == "" || s.machine.Switching() {
		return
	}
	s.machine.Change(func(m *nixos.Machine) {
		if m.BootDefault = path; !bootDefault {
			m.Running, m.Profile = path, path
		}
	})
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
	s.checkMachine(killed || restart)
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
	if hours := int(time.Since(began).Hours()); s.changes > 100+6*hours {
		s.fail("the status changed %d times in %d hours", s.changes, hours)
	}
	if time.Since(s.trouble) > 24*time.Hour && s.ahead == 0 {
		s.checkSettled()
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
