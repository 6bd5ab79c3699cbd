package host_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/nixos/nixfake"
)

// What becomes of the host: running, profile, boot default; phase; reason.
const (
	inForce = "CCC Committed UpToDate"
	taken   = "BBB RolledBack Quarantined"
	tooNewB = "BBB newer JournalTooNew" // the guard took it back
	tooNewC = "CCC newer JournalTooNew" // the guard finished it
	pending = "BCC RebootPending RebootPending"
)

// row is a state of a transaction, by the act that is done in it, and what each
// strike makes of it.
type row struct {
	state, act    string
	flake, policy string
	want          string            // without a strike, and with most of them
	but           map[strike]string // with these
}

// Words of the third system's flake: it fails its check, its agent does not
// come up, somebody reboots the host when it waits for that.
const healthy, sick, crashes, boots = "", "sick", "crashes", "boots"

func rows() []row {
	takenBy := map[strike]string{guardFires: taken, newerJournal: tooNewB}
	finished := map[strike]string{newerJournal: tooNewC}
	untouched := map[strike]string{newerJournal: tooNewB}
	const Switch, boot, reboots = "mode: Switch", "mode: Boot", "reboot: {when: IfRequired, delay: 0s}"
	return []row{
		{"Idle", "agent fetch", healthy, Switch, inForce, untouched},
		{"Verified", "agent build", healthy, Switch, inForce, untouched},
		{"Built", "agent root", healthy, Switch, inForce, untouched},
		{"Armed", "agent arm", healthy, Switch, inForce, untouched},
		{"Switching", "agent start test", healthy, Switch, inForce, map[strike]string{guardFires: taken, newerJournal: tooNewB, stcHangs: taken}},
		{"Switching", "agent await test", healthy, Switch, inForce, takenBy},
		{"Confirming", "agent outdated", healthy, Switch, inForce, takenBy},
		{"Confirming", "agent check", healthy, Switch, inForce, takenBy},
		{"Committing", "agent profile", healthy, Switch, inForce, finished},
		{"Committing", "agent start boot", healthy, Switch, inForce, finished},
		{"Committing", "agent await boot", healthy, Switch, inForce, finished},
		{"RollingBack", "agent fire", sick, Switch, taken, untouched},
		{"RollingBack", "guard stop", sick, Switch, taken, nil},
		{"RollingBack", "guard start rollback", sick, Switch, taken, map[strike]string{stcHangs: "CBB RollbackFailed Quarantined"}},
		{"RollingBack", "guard await rollback", sick, Switch, taken, nil},
		{"RollingBack without an agent", "guard stop", crashes, Switch, taken, nil},
		{"RollingBack without an agent", "guard start rollback", crashes, Switch, taken, map[strike]string{stcHangs: "CBB Confirming Progressing"}},
		{"Staging", "agent arm", healthy, boot, pending, untouched},
		{"Staging", "agent profile", healthy, boot, pending, untouched},
		{"Staging", "agent start boot", healthy, boot, pending, untouched},
		{"Staging", "agent await boot", healthy, boot, pending, untouched},
		{"RebootPending", "agent outdated", boots, boot, inForce, map[strike]string{newerJournal: tooNewB, storeDown: pending}}, // once more
		{"Confirming a boot", "agent check", boots, boot, inForce, untouched},
		{"Rebooting", "agent reboot", "kernel:2", reboots, inForce, finished},
		{"Taking a boot back", "agent profile", boots + " " + sick, boot, taken, untouched},
		{"Taking a boot back", "agent start boot-back", boots + " " + sick, boot, taken, untouched},
		{"Taking a boot back", "agent reboot", boots + " " + sick, boot, taken, untouched},
		{"Taking a boot back without an agent", "boot guard profile", boots + " " + crashes, boot, taken, nil},
		{"Taking a boot back without an agent", "boot guard await boot-back", boots + " " + crashes, boot, taken, nil},
		{"Taking a boot back without an agent", "boot guard reboot", boots + " " + crashes, boot, taken, nil},
	}
}

// Whatever strikes whichever state, the host ends in one that is named here,
// with everything of one system, and says so.
func TestTransactions(t *testing.T) {
	t.Parallel()
	for _, r := range rows() {
		for _, s := range append(strikes(), nothing) {
			if s == newerJournal && strings.Contains(r.act, "guard") {
				continue // the agent that lives has read its journal
			}
			if s == stcHangs && !strings.Contains(r.act, "start") {
				continue // nothing runs that could hang
			}
			if s == diskReadOnly && r.act == "agent fetch" {
				continue // a file is open, so the disk cannot be made so
			}
			t.Run(fmt.Sprintf("%s, %s: %s", r.state, r.act, s), func(t *testing.T) {
				t.Parallel()
				want := r.want
				if but, ok := r.but[s]; ok {
					want = but
				}
				if got := inTable(t, r.flake, r.policy, r.act, s, nil); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			})
		}
	}
}

// The table would tell: mistakes that other tools make are seen by it.
func TestTransactionsTableSeesMistakes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flake  string
		mutate func(ctx context.Context, m *nixfake.Machine, a nixos.Activation) error
	}{
		"the commit comes before the confirmation": {sick, func(ctx context.Context, m *nixfake.Machine, a nixos.Activation) error {
			if what(a.ID) == "test" {
				a.Action = nixos.ActionTest
				m.Change(func(s *nixos.Machine) { s.Profile, s.BootDefault = a.Toplevel, a.Toplevel })
			}
			return m.Start(ctx, a)
		}},
		"the rollback goes to the generation before": {sick, func(ctx context.Context, m *nixfake.Machine, a nixos.Activation) error {
			if what(a.ID) == "rollback" {
				a.Toplevel = m.Generation(1)
			}
			return m.Start(ctx, a)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := inTable(t, c.flake, "mode: Switch", "", nothing, c.mutate); got == taken {
				t.Errorf("%s: the table does not see it", got)
			}
		})
	}
}
