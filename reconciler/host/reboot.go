package host

import (
	"context"
	"errors"
	"time"

	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/reconciler/statefile"
)

// trackReboot adds what is known of a reboot, and remembers since when one
// could be begun.
func (r *Reconciler) trackReboot(ctx context.Context, in *plan.Input) error {
	j := r.journal
	if j.Reboot != nil {
		in.Reboots = *j.Reboot
	}
	if in.Suspended == nil && (in.Unsure() || in.Unhealthy != "") {
		if in.Reboots.UnderWay(in.Now) {
			return nil
		}
		return r.unstageCommitted(ctx, in) // nothing else is forgotten by what may be old
	}
	if err := r.renewReboot(ctx, in); err != nil {
		return err
	}
	wanted, allowed := plan.RebootDue(*in)
	if !wanted {
		return r.cancelReboot(ctx, in)
	}
	if err := r.allowReboot(in, allowed); err != nil {
		return err
	}
	in.Reboots.Sessions = r.sessions(ctx)
	return nil
}

// allowReboot remembers since when a reboot could be begun.
func (r *Reconciler) allowReboot(in *plan.Input, allowed bool) error {
	if since := in.Reboots.AllowedSince; !allowed || (!since.IsZero() && !since.After(in.Now)) { // the latter by a clock that was wrong
		return nil
	}
	in.Reboots.AllowedSince, in.Reboots.Target = in.Now, in.Desired
	r.journal.Reboot = new(in.Reboots)
	return r.save()
}

// sessions are those who are logged in. Where that cannot be told it is not nobody.
func (r *Reconciler) sessions(ctx context.Context) []string {
	sessions, err := r.opts.Observer.Sessions(ctx)
	if err != nil {
		r.opts.Log.Info("Could not look who is logged in", "host", r.opts.Host, "error", err.Error())
		return []string{"nobody knows who: logind does not answer"}
	}
	return sessions
}

// renewReboot drops what is too old of an announcement, and tells so.
func (r *Reconciler) renewReboot(ctx context.Context, in *plan.Input) error {
	j := r.journal
	if j.Reboot == nil {
		return nil
	}
	in.Reboots = in.Reboots.Renew(in.Now, r.policy().Reboot.Delay.Duration)
	if in.Reboots.Target != in.Desired && in.Desired != "" && !in.Reboots.UnderWay(in.Now) { // what was asked for was another one
		in.Reboots = plan.Reboots{AllowedSince: in.Reboots.AllowedSince, Announced: in.Reboots.Announced, Target: in.Desired}
	}
	told := !j.Reboot.Announced.IsZero()
	j.Reboot = new(in.Reboots)
	if !told || !in.Reboots.Announced.IsZero() {
		return nil
	}
	if err := r.save(); err != nil {
		return err
	}
	r.tell(ctx, rebootNotMade)
	return nil
}

// cancelReboot forgets a reboot that is not wanted any more, and tells those who
// were told of it. Whoever reboots the host later is not judged by it.
func (r *Reconciler) cancelReboot(ctx context.Context, in *plan.Input) error {
	j := r.journal
	outlives := plan.RebootOutlives(*in)
	if err := r.forgetNotRebooted(in, outlives); err != nil || j.Reboot == nil {
		return err
	}
	left := *j.Reboot
	if err := r.unstageCommitted(ctx, in); err != nil {
		return err
	}
	announced := !left.Announced.IsZero()
	left.Announced = time.Time{}
	j.Reboot, in.Reboots = nil, plan.Reboots{}
	if outlives {
		j.Reboot, in.Reboots = &left, left
	}
	if outlives && !announced { // nothing has changed
		return nil
	}
	if err := r.save(); err != nil {
		return err
	}
	if announced {
		r.tell(ctx, rebootCancelled)
	}
	return nil
}

// forgetNotRebooted forgets how a reboot failed that is not wanted any more.
func (r *Reconciler) forgetNotRebooted(in *plan.Input, outlives bool) error {
	j := r.journal
	if f := j.Tries.Failure; f == nil || !f.Reboot || outlives {
		return nil
	}
	j.Tries = tries{Key: j.Tries.Key}
	in.Attempts, in.Failure = 0, nil
	return r.save()
}

// unstageCommitted ends the transaction of a reboot into the committed system,
// which is nothing without its reboot.
func (r *Reconciler) unstageCommitted(ctx context.Context, in *plan.Input) error {
	j := r.journal
	if !j.Phase.waiting() {
		return nil
	}
	t, err := r.transaction()
	switch {
	case err == nil && t != nil && !t.Plan.Committed:
		return nil
	case err != nil && !errors.Is(err, statefile.ErrUnusable):
		return err
	}
	if err := r.unstage(ctx, rebootNotWanted); err != nil {
		return err
	}
	in.Staged, in.RebootNeeded, in.Unproven = j.Staged, j.RebootNeeded, j.Unproven
	return r.save()
}

// tell says something to everybody who is logged in.
func (r *Reconciler) tell(ctx context.Context, message string) {
	if err := r.opts.Power.Wall(ctx, message); err != nil {
		r.opts.Log.Info("Could not tell who is logged in", "host", r.opts.Host, "error", err.Error())
	}
}

// announceReboot tells who is logged in, and how to stop it.
func (r *Reconciler) announceReboot(ctx context.Context) error {
	j := r.journal
	j.Reboot.Announced = r.opts.Now()
	if f := j.Tries.Failure; f != nil && f.Reboot { // it may be tried: by its time, or by an operator's word
		f.NextAt = r.opts.Now()
	}
	if err := r.save(); err != nil {
		return err
	}
	r.tell(ctx, rebootsIn(r.policy().Reboot.Delay.Duration))
	return nil
}

// reboot makes the machine boot the desired system. What it boots is confirmed
// like any other, and taken back if it does not prove itself: for that there is
// a transaction, also where the system is committed already.
func (r *Reconciler) reboot(ctx context.Context, p *pass) error {
	err := r.tryReboot(ctx, p)
	if j := r.journal; p.attempted && err == nil {
		if j.Reboot != nil {
			j.Reboot.Announced = time.Time{}
			err = r.save()
		}
		r.tell(ctx, rebootDidFail)
	}
	return err
}

func (r *Reconciler) tryReboot(ctx context.Context, p *pass) error {
	j := r.journal
	if !j.Phase.waiting() { // that takes its time: what is declared by then is looked at once more
		return r.stageReboot(ctx, p)
	}
	j.Reboot.Asked++
	j.Reboot.AskedAt, j.Reboot.Within = r.opts.Now(), r.policy().Timeouts.Reboot.Duration
	if err := r.enter(phaseRebootPending); err != nil {
		return err
	}
	if r.suspension(r.opts.Now()) != nil { // by whoever was told of it just now
		return r.notAsked()
	}
	r.opts.Log.Info("Rebooting", "host", r.opts.Host, "target", p.desired.Toplevel, "asked", j.Reboot.Asked)
	if err := r.tellToReboot(ctx, "rebooting into "+p.desired.Toplevel+", as the HostSpec says"); err != nil {
		r.failed(p, notTold(err))
		return r.notAsked()
	}
	return nil
}

// rebootLimit is how long telling the machine to reboot may take.
const rebootLimit = time.Minute

// tellToReboot tells the machine to reboot. An error says that it was not told: an
// agent that is stopped meanwhile knows that, too, and where telling it takes too
// long it may go down yet.
func (r *Reconciler) tellToReboot(ctx context.Context, why string) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), rebootLimit)
	defer cancel()
	if err := r.opts.Power.Reboot(limited, "npcnix: "+why); err != nil && limited.Err() == nil {
		return err
	}
	return nil
}

// notAsked remembers that the machine was not told to reboot after all.
func (r *Reconciler) notAsked() error {
	reboot := r.journal.Reboot
	reboot.Asked--
	reboot.AskedAt, reboot.Within = time.Time{}, 0
	return r.save()
}

// stageReboot begins the transaction of a reboot into the committed system. What
// was booted before is what is gone back to.
func (r *Reconciler) stageReboot(ctx context.Context, p *pass) error {
	if err := r.open(ctx); err != nil {
		return err
	}
	t, err := r.record(ctx, p)
	if err == nil {
		err = r.opts.Guard.Prepare(ctx, t.Plan.ID, t.Directory())
	}
	if err != nil {
		r.discard(context.WithoutCancel(ctx))
		return r.fail(p, notRebooted(err))
	}
	if err := r.enter(phaseStaging); err != nil {
		return err
	}
	return r.drive(ctx, p, t)
}
