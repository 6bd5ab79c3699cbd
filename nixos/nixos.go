package nixos

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
)

// Unknown stands for a fact that cannot be read on this machine. It is never
// taken for a difference.
const Unknown = "Unknown"

// ErrRootNotSupported is returned for a toplevel without the marker that allows
// it to be activated below another root than /.
var ErrRootNotSupported = errors.New("the system does not contain the file npcnix-root, so it is not activated below --root")

// Machine is what a machine says of itself. Paths are store paths; empty means
// that there is none.
type Machine struct {
	// Running is what /run/current-system points at.
	Running string
	// Specialisation is set if Running is that specialisation of the desired toplevel.
	Specialisation string
	// Booted is what /run/booted-system points at.
	Booted string
	// Profile is the path of the system profile, ProfileGeneration its number.
	Profile           string
	ProfileGeneration int64
	// BootDefault is what the boot loader starts next, or Unknown.
	BootDefault string
	// BootedSpecialisation is set if Booted is that specialisation of the desired toplevel.
	BootedSpecialisation string
	// Reboot is what only a reboot brings into force.
	Reboot RebootNeed
	// NixOSVersion and Kernel describe Running.
	NixOSVersion, Kernel string
}

// RebootNeed compares what runs with what was booted.
type RebootNeed struct {
	// Known is false where a file is missing on either side, or nothing was booted.
	Known bool
	// Changed names what differs, such as "kernel, initrd"; of kernel, initrd,
	// kernel-modules, kernel-params and reboot-triggers.
	Changed string
}

// Runs reports whether the toplevel, which Observe was asked about, or one of
// its specialisations is running.
func (m Machine) Runs(desired string) bool {
	return desired != "" && (m.Running == desired || m.Specialisation != "")
}

// Observer looks at the machine and changes nothing.
type Observer interface {
	// Observe describes the machine. desired, a toplevel or empty, is what
	// Specialisation is judged against.
	Observe(ctx context.Context, desired string) (Machine, error)
	// Specialisation returns the name of toplevel's specialisation that path
	// is, or "".
	Specialisation(toplevel, path string) string
	// Specialised returns the path of toplevel's specialisation of that name,
	// or "" if it has none.
	Specialised(toplevel, name string) string
	// Inhibitors names the critical components that differ between what runs
	// and toplevel, so that only a reboot can bring it into force.
	Inhibitors(toplevel string) []string
	// Units lists the machine's services. ErrNoServiceManager is returned
	// where nothing manages any.
	Units(ctx context.Context) (Units, error)
	// BootFull reports whether /boot has no room for the kernel and the initrd of
	// a toplevel, as far as they are not there, and for an entry: then a boot
	// loader that could not be installed is no fault of the system.
	BootFull(toplevel string) bool
	// FreeDisk is what is free on the file system of the Nix store, in bytes. ok
	// is false where that cannot be told.
	FreeDisk() (free int64, ok bool)
	// Sessions names who is logged in.
	Sessions(ctx context.Context) ([]string, error)
	// OtherSwitch says what else switches the machine just now, or "".
	OtherSwitch(ctx context.Context) (string, error)
	// NixVersion returns the version of Nix, such as 2.8.0.
	NixVersion(ctx context.Context) (string, error)
	// BootID tells one boot of the machine from another.
	BootID(ctx context.Context) (string, error)
}

// ErrNoServiceManager is returned where systemd does not run.
var ErrNoServiceManager = errors.New("systemd does not run here")

// Unit is a service as its manager sees it.
type Unit struct {
	Name string
	// Failed: it failed, or waits to be restarted after a failure.
	Failed bool
	// Starting: a start is under way, such as a oneshot's.
	Starting bool
	// Restarts counts how often its manager restarted it by itself.
	Restarts uint32
}

// Units are the services of a machine.
type Units []Unit

// Failed returns the names of those that failed, sorted.
func (u Units) Failed() []string { return u.names(func(u Unit) bool { return u.Failed }) }

// Starting returns the names of those that are being started, sorted.
func (u Units) Starting() []string { return u.names(func(u Unit) bool { return u.Starting }) }

// Restarts counts the restarts of each that was restarted.
func (u Units) Restarts() map[string]uint32 {
	counts := map[string]uint32{}
	for _, unit := range u {
		if unit.Restarts > 0 {
			counts[unit.Name] = unit.Restarts
		}
	}
	return counts
}

func (u Units) names(which func(Unit) bool) []string {
	var names []string
	for _, unit := range u {
		if which(unit) {
			names = append(names, unit.Name)
		}
	}
	slices.Sort(names)
	return names
}

// IsStorePath reports whether path names an object of the Nix store, which can
// be rooted and gone back to.
func IsStorePath(path string) bool {
	name, ok := strings.CutPrefix(path, "/nix/store/")
	return ok && filepath.Clean(path) == path && name != "" && !strings.HasPrefix(name, ".")
}
