package systemd

import (
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready tells the service manager that this service is up. Without one it does
// nothing.
func Ready() error { return notify(daemon.SdNotifyReady) }

// Alive feeds the service's watchdog.
func Alive() error { return notify(daemon.SdNotifyWatchdog) }

// Stopping tells the service manager that this service ends.
func Stopping() error { return notify(daemon.SdNotifyStopping) }

func notify(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}

// Watchdog is how often Alive must be called at least; 0 is never.
func Watchdog() (time.Duration, error) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0, fmt.Errorf("read the watchdog's time: %w", err)
	}
	return interval, nil
}
