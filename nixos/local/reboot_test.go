package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/npcnix/npcnix/nixos"
)

// What runs is compared with what was booted by what their links lead to, and by
// the text of their parameters and triggers. Where something is missing, nobody
// knows.
func TestRebootNeed(t *testing.T) {
	t.Parallel()
	system := func(kernel, initrd, modules, params string) map[string]string {
		return map[string]string{"kernel": kernel, "initrd": initrd, "kernel-modules": modules, "kernel-params": params}
	}
	with := func(triggers string) map[string]string {
		s := system("k1", "i1", "m1", "quiet")
		s["reboot-triggers"] = triggers
		return s
	}
	booted, without := system("k1", "i1", "m1", "quiet"), system("k1", "i1", "m1", "quiet")
	delete(without, "initrd")
	for name, c := range map[string]struct {
		booted, running map[string]string
		want            nixos.RebootNeed
	}{
		"the same":                        {booted, system("k1", "i1", "m1", "quiet"), nixos.RebootNeed{Known: true}},
		"a kernel":                        {booted, system("k2", "i1", "m1", "quiet"), nixos.RebootNeed{Known: true, Changed: "kernel"}},
		"an initrd":                       {booted, system("k1", "i2", "m1", "quiet"), nixos.RebootNeed{Known: true, Changed: "initrd"}},
		"modules":                         {booted, system("k1", "i1", "m2", "quiet"), nixos.RebootNeed{Known: true, Changed: "kernel-modules"}},
		"parameters":                      {booted, system("k1", "i1", "m1", "quiet splash"), nixos.RebootNeed{Known: true, Changed: "kernel-params"}},
		"two of them":                     {booted, system("k2", "i1", "m2", "quiet"), nixos.RebootNeed{Known: true, Changed: "kernel, kernel-modules"}},
		"triggers":                        {with("1"), with("2"), nixos.RebootNeed{Known: true, Changed: "reboot-triggers"}},
		"the same triggers":               {with("1"), with("1"), nixos.RebootNeed{Known: true}},
		"triggers that are new":           {booted, with("1"), nixos.RebootNeed{Known: true}},
		"no initrd in one":                {booted, without, nixos.RebootNeed{}},
		"no initrd, and another kernel":   {without, system("k2", "i1", "m1", "quiet"), nixos.RebootNeed{}},
		"no system that was booted":       {nil, booted, nixos.RebootNeed{}},
		"no system that runs, as it were": {booted, nil, nixos.RebootNeed{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			lay(t, root, "booted-system", c.booted)
			lay(t, root, "current-system", c.running)
			machine, err := newMachine(t, root).Observe(t.Context(), "")
			if err != nil || machine.Reboot != c.want {
				t.Errorf("%+v %v, want %+v", machine.Reboot, err, c.want)
			}
		})
	}
}

// lay makes a system of links and parameters that /run names; nil is none.
func lay(t *testing.T, root, name string, system map[string]string) {
	t.Helper()
	if system == nil {
		return
	}
	dir, run := filepath.Join(root, "systems", name), filepath.Join(root, "run")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.MkdirAll(run, 0o755), os.Symlink(dir, filepath.Join(run, name))); err != nil {
		t.Fatal(err)
	}
	for file, what := range system {
		path, target := filepath.Join(dir, file), filepath.Join(root, what)
		var err error
		if file == "kernel-params" || file == "reboot-triggers" {
			err = os.WriteFile(path, []byte(what), 0o600)
		} else {
			err = errors.Join(os.WriteFile(target, nil, 0o600), os.Symlink(target, path))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
