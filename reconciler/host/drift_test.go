package host_test

import (
	"testing"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/nixos"
)

func TestDriftIsCorrectedAfterItsGrace(t *testing.T) {
	t.Parallel()
	w := converged(t)
	desired := w.machine.State().Running
	w.machine.Change(func(m *nixos.Machine) { m.Running = "/nix/store/by-hand" })
	w.pass()
	w.want("Ready", meta.False, "Drifted", "it runs /nix/store/by-hand instead of "+desired)
	w.now = w.now.Add(10 * time.Minute)
	w.machine.Change(func(m *nixos.Machine) { m.Running = "/nix/store/by-hand-again" })
	w.pass() // the grace starts anew
	w.now = w.now.Add(10 * time.Minute)
	w.pass()
	w.wantCalls("build", "test", "profile", "boot")
	w.now = w.now.Add(5 * time.Minute)
	w.pass()
	w.wantCalls("build", "test", "profile", "boot", "test")
	w.want("Ready", meta.True, "UpToDate", "")
}

// A grace that a clock began which was a year ahead begins anew.
func TestDriftSinceAWrongClockIsCorrected(t *testing.T) {
	t.Parallel()
	w := converged(t)
	usual := w.now
	w.now = usual.AddDate(1, 0, 0)
	w.machine.Change(func(m *nixos.Machine) { m.Running = "/nix/store/by-hand" })
	w.pass()
	w.now = usual.Add(time.Minute)
	w.pass()
	w.want("Ready", meta.False, "Drifted", "It will be corrected at 2026-11-22T10:16:00Z.")
	w.now = usual.Add(16 * time.Minute)
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestDriftOfProfileOrBootDefaultIsMendedWithoutActivation(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.put("hosts/web.yaml", hostSpec+"  rebuildPolicy: {drift: {grace: 0s}}\n")
	w.machine.Change(func(m *nixos.Machine) { m.Profile = "/nix/store/other" })
	w.pass()
	w.wantCalls("build", "test", "profile", "boot", "profile", "boot")
	w.machine.Change(func(m *nixos.Machine) { m.BootDefault = "/nix/store/other" })
	w.pass()
	w.wantCalls("build", "test", "profile", "boot", "profile", "boot", "boot")
	w.want("Ready", meta.True, "UpToDate", "")
}

// That the boot default was mended makes nothing healthy.
func TestMendingForgivesNoUnitThatFailed(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.put("hosts/web.yaml", hostSpec+"  rebuildPolicy: {drift: {grace: 0s}}\n")
	w.machine.OnUnits = func(units nixos.Units) nixos.Units {
		return append(units, nixos.Unit{Name: "db.service", Failed: true})
	}
	w.now = w.now.Add(time.Hour)
	w.pass()
	w.want("Ready", meta.False, "HealthCheckFailed", "db.service")
	w.machine.Change(func(m *nixos.Machine) { m.BootDefault = "/nix/store/other" })
	w.pass()
	w.want("Ready", meta.False, "HealthCheckFailed", "db.service")
	w.now = w.now.Add(time.Hour)
	w.pass()
	w.want("Ready", meta.False, "HealthCheckFailed", "db.service")
}

func TestDriftIsOnlyReportedWherePolicySaysSo(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.put("hosts/web.yaml", hostSpec+"  rebuildPolicy: {drift: {action: Report, grace: 0s}}\n")
	w.machine.Change(func(m *nixos.Machine) { m.Running = "/nix/store/by-hand" })
	if outcome := w.once(); !outcome.Decision.Waiting {
		t.Errorf("decision %+v", outcome.Decision)
	}
	w.want("Ready", meta.False, "Drifted", "The policy is to report it only.")
	w.wantCalls("build", "test", "profile", "boot")
}

func TestSpecialisationOfTheDesiredSystemIsNoDrift(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.Change(func(m *nixos.Machine) { m.Running += "-specialisation-gaming" })
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
}

func TestUnknownBootDefaultIsNoDrift(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.Change(func(m *nixos.Machine) { m.BootDefault = nixos.Unknown })
	w.pass()
	w.want("Ready", meta.True, "UpToDate", "")
	w.want("Staged", meta.Unknown, "Pending", "cannot be read")
}

// A switch by hand changes profile and boot default too: all is mended at once.
func TestWholeSwitchByHandIsCorrectedAtOnceAfterItsGrace(t *testing.T) {
	t.Parallel()
	w := converged(t)
	w.machine.Change(func(m *nixos.Machine) {
		m.Running, m.Profile, m.BootDefault = "/nix/store/by-hand", "/nix/store/by-hand", "/nix/store/by-hand"
	})
	w.pass()
	w.now = w.now.Add(15 * time.Minute)
	w.pass()
	w.wantCalls("build", "test", "profile", "boot", "test", "profile", "boot")
	w.want("Ready", meta.True, "UpToDate", "")
}
