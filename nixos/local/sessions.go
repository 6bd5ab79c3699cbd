package local

import "context"

// Sessions asks logind. Where there is none, nobody is known to be logged in.
func (m *Machine) Sessions(ctx context.Context) ([]string, error) {
	if m.units == nil {
		return nil, nil
	}
	return m.units.Sessions(ctx)
}
