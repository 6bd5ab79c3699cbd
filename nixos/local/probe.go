package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/npcnix/npcnix/nixos/run"
)

// errNotLoopback is returned for a check that would reach another machine.
var errNotLoopback = errors.New("checks reach this machine alone, unless its own configuration allows more")

// dialer connects to this machine alone, unless others are allowed. The
// address is judged after names were resolved.
func (m *Machine) dialer() *net.Dialer {
	d := &net.Dialer{}
	if !m.opts.RemoteChecks {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil || !to.Addr().Unmap().IsLoopback() {
				return fmt.Errorf("%w: %s", errNotLoopback, address)
			}
			return nil
		}
	}
	return d
}

// HTTP gets a URL over a connection of its own.
func (m *Machine) HTTP(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	transport := &http.Transport{DialContext: m.dialer().DialContext, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err //nolint:wrapcheck // names method and URL
	}
	if err := response.Body.Close(); err != nil {
		return fmt.Errorf("check %s: %w", url, err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return nil
}

// TCP connects and hangs up.
func (m *Machine) TCP(ctx context.Context, address string) error {
	conn, err := m.dialer().DialContext(ctx, "tcp", address)
	if err != nil {
		return err //nolint:wrapcheck // names the address
	}
	return conn.Close() //nolint:wrapcheck // names the address
}

// checkLimit is the longest timeout that a check can have: no command outlives
// an agent that was killed by more.
const checkLimit = time.Hour

// Exec runs a command of the host's configuration, until ctx ends.
func (m *Machine) Exec(ctx context.Context, name string) error {
	argv := m.opts.Checks[name]
	if len(argv) == 0 {
		return fmt.Errorf("the host's configuration defines no check %q: healthChecks.commands.%s in /etc/npcnix/reconciler.yaml", name, name)
	}
	result, err := m.command(ctx, checkUnits, run.Command{Path: argv[0], Args: argv[1:], Env: run.Environ([]string{"PATH", "LANG"}), Dir: "/", Limit: checkLimit})
	if err != nil {
		return err
	}
	if result.ExitCode != 0 {
		return fmt.Errorf("exit code %d: %s", result.ExitCode, humanTail(string(result.Stdout)+string(result.Stderr)))
	}
	return nil
}
