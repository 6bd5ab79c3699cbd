package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	"github.com/coreos/go-systemd/v22/login1"
	godbus "github.com/godbus/dbus/v5"
)

const (
	// reconnect bounds how long a manager that executes itself anew is waited for.
	reconnect = 30 * time.Second
	pause     = 100 * time.Millisecond
	// call bounds one request.
	call = 30 * time.Second
)

// Booted reports whether systemd is the machine's init, as sd_booted(3) does.
func Booted() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// Manager is the machine's service manager. The zero value connects when it is
// first asked.
type Manager struct {
	mu    sync.Mutex
	conn  *dbus.Conn
	dials dials[*dbus.Conn]

	logind dials[*login1.Conn]
}

// Close closes the connections.
func (m *Manager) Close() {
	m.drop()
	m.dials.giveUp()
	m.logind.giveUp()
}

func (m *Manager) drop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}

func (m *Manager) connection(ctx context.Context) (*dbus.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil && m.conn.Connected() {
		return m.conn, nil
	}
	// The connection outlives this request's context.
	conn, err := m.dials.dial(ctx, func() (*dbus.Conn, error) { return dbus.NewSystemdConnectionContext(context.WithoutCancel(ctx)) })
	if err != nil {
		return nil, err
	}
	m.conn = conn
	return conn, nil
}

// ask makes a request, over a new connection if the old one breaks. again says
// that a request whose answer was lost may be made once more.
func (m *Manager) ask(ctx context.Context, what string, again bool, request func(ctx context.Context, c *dbus.Conn) error) error {
	limited, cancel := context.WithTimeout(ctx, reconnect)
	defer cancel()
	for {
		conn, err := m.connection(limited)
		asked := err == nil
		if asked {
			once, cancel := context.WithTimeout(limited, call)
			err = request(once, conn)
			cancel()
		}
		var answer godbus.Error
		if err == nil || errors.As(err, &answer) || (asked && !again) {
			return wrap(what, err)
		}
		m.drop()
		select {
		case <-limited.Done():
			return wrap(what, err)
		case <-time.After(pause):
		}
	}
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// is reports whether the manager answered with that error.
func is(err error, name string) bool {
	var answer godbus.Error
	return errors.As(err, &answer) && answer.Name == "org.freedesktop.systemd1."+name
}

// Service is a transient service.
type Service struct {
	// Name ends in .service.
	Name, Description string
	// Argv is run; Ended is run when it has ended, however that came about.
	Argv, Ended []string
	// Env is the whole environment beside what systemd adds.
	Env []string
	// Limit bounds the run; 0 is none.
	Limit time.Duration
	// Restart starts it anew when it ends other than by exiting with 0.
	Restart bool
}

// microseconds are how systemd counts; no time here is negative.
func microseconds(d time.Duration) uint64 { return uint64(max(0, d.Microseconds())) }

const grace = 10 * time.Second

func (s Service) properties() []dbus.Property {
	list := []dbus.Property{
		dbus.PropDescription(s.Description),
		dbus.PropExecStart(s.Argv, false),
		property("Environment", s.Env),
		property("CollectMode", "inactive-or-failed"),
		property("TimeoutStopUSec", microseconds(grace)),
		property("IgnoreOnIsolate", true),
		property("OOMPolicy", "continue"),
	}
	if s.Restart {
		list = append(list, dbus.PropType("simple"), property("Restart", "on-failure"), property("RestartUSec", microseconds(time.Second)),
			property("StartLimitIntervalUSec", uint64(0)))
	} else {
		list = append(list, dbus.PropType("exec"))
	}
	if len(s.Ended) > 0 {
		list = append(list, property("ExecStopPost", []execCommand{{s.Ended[0], s.Ended, false}}))
	}
	if s.Limit > 0 {
		list = append(list, property("RuntimeMaxUSec", microseconds(s.Limit)))
	}
	return list
}

// execCommand is a(sasb): program, argument vector, whether a failure is ignored.
type execCommand struct {
	Path   string
	Args   []string
	Ignore bool
}

func property(name string, value any) dbus.Property {
	return dbus.Property{Name: name, Value: godbus.MakeVariant(value)}
}

// ErrExists is returned for a unit that is there already.
var ErrExists = errors.New("there is such a unit already")

// Start starts a transient service and returns when the manager knows of it.
func (m *Manager) Start(ctx context.Context, s Service) error {
	err := m.ask(ctx, "start "+s.Name, false, func(ctx context.Context, c *dbus.Conn) error {
		_, err := c.StartTransientUnitContext(ctx, s.Name, "fail", s.properties(), nil)
		return err //nolint:wrapcheck // wrapped by ask
	})
	if is(err, "UnitExists") {
		return fmt.Errorf("%w: %s", ErrExists, s.Name)
	}
	return err
}

// StartTimer starts a transient timer that starts the service after that time.
// Both have the same name but for its ending.
func (m *Manager) StartTimer(ctx context.Context, s Service, after time.Duration) error {
	timer := strings.TrimSuffix(s.Name, ".service") + ".timer"
	properties := []dbus.Property{
		dbus.PropDescription(s.Description),
		property("TimersMonotonic", []timerSpec{{"OnActiveSec", microseconds(after)}}),
		property("AccuracyUSec", microseconds(time.Second)),
		property("RemainAfterElapse", true),
		property("IgnoreOnIsolate", true),
		property("CollectMode", "inactive-or-failed"),
	}
	err := m.ask(ctx, "start "+timer, false, func(ctx context.Context, c *dbus.Conn) error {
		_, err := c.StartTransientUnitAux(ctx, timer, "fail", properties, []dbus.PropertyCollection{{Name: s.Name, Properties: s.properties()}}, nil)
		return err //nolint:wrapcheck // wrapped by ask
	})
	if is(err, "UnitExists") {
		return fmt.Errorf("%w: %s", ErrExists, timer)
	}
	return err
}

type timerSpec struct {
	Base string
	USec uint64
}

// Begin starts a unit that the manager knows.
func (m *Manager) Begin(ctx context.Context, name string) error {
	return m.ask(ctx, "start "+name, true, func(ctx context.Context, c *dbus.Conn) error {
		_, err := c.StartUnitContext(ctx, name, "replace", nil)
		return err //nolint:wrapcheck // wrapped by ask
	})
}

// Restart ends a unit and starts it anew. It returns before that is done.
func (m *Manager) Restart(ctx context.Context, name string) error {
	return m.ask(ctx, "restart "+name, true, func(ctx context.Context, c *dbus.Conn) error {
		_, err := c.RestartUnitContext(ctx, name, "replace", nil)
		return err //nolint:wrapcheck // wrapped by ask
	})
}

// Stop stops a unit and waits until nothing of it is left. One that is not
// there is no error.
func (m *Manager) Stop(ctx context.Context, name string) error {
	err := m.ask(ctx, "stop "+name, true, func(ctx context.Context, c *dbus.Conn) error {
		_, err := c.StopUnitContext(ctx, name, "replace", nil)
		return err //nolint:wrapcheck // wrapped by ask
	})
	if is(err, "NoSuchUnit") {
		return nil
	}
	if err != nil {
		return err
	}
	return m.Wait(ctx, name)
}

// Wait waits until a unit does not run any more.
func (m *Manager) Wait(ctx context.Context, name string) error {
	for {
		runs, err := m.Runs(ctx, name)
		if err != nil || !runs {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx) //nolint:wrapcheck // the caller's own
		case <-time.After(pause):
		}
	}
}

// Runs reports whether a unit runs, or is about to begin or to end.
func (m *Manager) Runs(ctx context.Context, name string) (bool, error) {
	state, err := m.state(ctx, name)
	return state != "" && state != "inactive" && state != "failed", err
}

// state returns a unit's ActiveState, "" for one that is not there.
func (m *Manager) state(ctx context.Context, name string) (state string, err error) {
	err = m.ask(ctx, "look at "+name, true, func(ctx context.Context, c *dbus.Conn) error {
		units, err := c.ListUnitsByNamesContext(ctx, []string{name})
		if err == nil && len(units) == 1 && units[0].LoadState != "not-found" {
			state = units[0].ActiveState
			if units[0].JobId != 0 && state == "inactive" {
				state = "activating"
			}
		}
		return err //nolint:wrapcheck // wrapped by ask
	})
	return state, err
}

// Unit is a service.
type Unit struct {
	Name, ActiveState, SubState string
	// Result says how it ended last, such as success or exit-code.
	Result   string
	Restarts uint32
}

// Services lists the services that run, begin, or failed.
func (m *Manager) Services(ctx context.Context) (services []Unit, err error) {
	err = m.ask(ctx, "list services", true, func(ctx context.Context, c *dbus.Conn) error {
		services = nil
		units, err := c.ListUnitsByPatternsContext(ctx, []string{"active", "activating", "reloading", "failed", "deactivating"}, []string{"*.service"})
		if err != nil {
			return err //nolint:wrapcheck // wrapped by ask
		}
		for _, u := range units {
			unit := Unit{Name: u.Name, ActiveState: u.ActiveState, SubState: u.SubState}
			restarts, err := c.GetServicePropertyContext(ctx, u.Name, "NRestarts")
			var answer godbus.Error
			switch {
			case errors.As(err, &answer): // it is gone since
			case err != nil:
				return err //nolint:wrapcheck // wrapped by ask
			default:
				unit.Restarts, _ = restarts.Value.Value().(uint32)
			}
			if result, err := c.GetServicePropertyContext(ctx, u.Name, "Result"); err == nil {
				unit.Result, _ = result.Value.Value().(string)
			}
			services = append(services, unit)
		}
		return nil
	})
	return services, err
}

// Matching lists the names of the units that run and match a pattern.
func (m *Manager) Matching(ctx context.Context, pattern string) (names []string, err error) {
	err = m.ask(ctx, "list "+pattern, true, func(ctx context.Context, c *dbus.Conn) error {
		names = nil
		units, err := c.ListUnitsByPatternsContext(ctx, []string{"active", "activating", "reloading", "deactivating"}, []string{pattern})
		for _, u := range units {
			names = append(names, u.Name)
		}
		return err //nolint:wrapcheck // wrapped by ask
	})
	return names, err
}

// Self returns the name of the service that this process is the main process
// of, or "".
func (m *Manager) Self(ctx context.Context) (name string, err error) {
	err = m.ask(ctx, "find this process's unit", true, func(ctx context.Context, c *dbus.Conn) error {
		unit, err := c.GetUnitNameByPID(ctx, uint32(os.Getpid())) //nolint:gosec // a pid fits
		if err != nil {
			return err //nolint:wrapcheck // wrapped by ask
		}
		main, err := c.GetServicePropertyContext(ctx, unit, "MainPID")
		if err != nil {
			return err //nolint:wrapcheck // wrapped by ask
		}
		if pid, ok := main.Value.Value().(uint32); ok && pid == uint32(os.Getpid()) { //nolint:gosec // a pid fits
			name = unit
		}
		return nil
	})
	if _, answered := errors.AsType[godbus.Error](err); answered { // in no unit, or in one that is no service
		return "", nil
	}
	return name, err
}

// Reboot asks for an orderly reboot.
func (m *Manager) Reboot(ctx context.Context) error {
	return m.ask(ctx, "reboot", false, func(ctx context.Context, c *dbus.Conn) error {
		_, err := c.StartUnitContext(ctx, "reboot.target", "replace-irreversibly", nil)
		return err //nolint:wrapcheck // wrapped by ask
	})
}
