package systemd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/coreos/go-systemd/v22/login1"
	godbus "github.com/godbus/dbus/v5"
)

// Sessions names the users whom logind knows to be logged in, each once: those
// of sessions of the class user that are not closing. Where there is no logind,
// nobody is; one that does not answer is an error.
// Source: org.freedesktop.login1(5).
func (m *Manager) Sessions(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	conn, err := m.logind.dial(ctx, login1.New)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("connect to logind: %w", err)
	case err != nil:
		return nil, nil // no bus, so no logind
	}
	defer conn.Close()
	sessions, err := conn.ListSessionsContext(ctx)
	switch {
	case isAbsent(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("ask logind for sessions: %w", err)
	}
	var users []string
	for _, s := range sessions {
		properties, err := conn.GetSessionPropertiesContext(ctx, s.Path)
		if err != nil {
			continue // it closed in between
		}
		class, _ := properties["Class"].Value().(string)
		state, _ := properties["State"].Value().(string)
		if class == "user" && state != "closing" && !slices.Contains(users, s.User) {
			users = append(users, s.User)
		}
	}
	slices.Sort(users)
	return users, nil
}

// isAbsent reports whether the bus knows of no such service.
func isAbsent(err error) bool {
	refused, ok := errors.AsType[godbus.Error](err)
	return ok && (refused.Name == "org.freedesktop.DBus.Error.ServiceUnknown" || refused.Name == "org.freedesktop.DBus.Error.NameHasNoOwner")
}
