package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/nixos"
	"github.com/npcnix/npcnix/reconciler"
	"github.com/npcnix/npcnix/reconciler/plan"
)

// maxActs bounds the acts of one pass. Build, activate and commit are three;
// more than a few rounds of them mean that an act and the planner disagree.
const maxActs = 8

// stepLimit is how long a step may take that sets no limit of its own.
const stepLimit = 10 * time.Minute

// Outcome is what a pass came to.
type Outcome struct {
	// TargetKnown says that the declaration and its remote were read in this pass.
	TargetKnown bool
	// StoreFailed says that the error, if there is one, is the store's.
	StoreFailed bool
	Decision    plan.Decision
}

// pass is one run through the steps.
type pass struct {
	// asked says that a person waits for the outcome of this very pass.
	asked     bool
	attempted bool
	machine   nixos.Machine
	// observed says that machine and desired are of this pass.
	observed bool
	desired  *built
	decision plan.Decision
	// decided says that decision is of this pass.
	decided bool
	// progress is what is being done, while it is.
	progress string
	// looked says that all documents were looked at in this pass.
	looked bool
	// storeFailed says that the store could not be read or written,
	// storeProblem what that is in a status: the last good documents are judged by.
	storeFailed  bool
	storeProblem *plan.Problem
}

// step is one part of a pass.
type step struct {
	name string
	// store says that an error is the store's. The other steps that ask the
	// store are left out then: what is known of it is judged all the same.
	store bool
	// document says that it looks at one of the documents.
	document bool
	run      func(ctx context.Context, p *pass) error
}

func (r *Reconciler) steps() []step {
	return []step{
		{"recover", false, false, r.recover},
		{"claim status", true, false, r.claim},
		{"observe spec", true, true, r.observeSpec},
		{"observe override", true, true, r.observeOverride},
		{"observe remote", true, true, r.observeRemote},
		{"plan and act", false, false, r.planAndAct},
	}
}

// Reconcile is the loop's function: one pass, and the time until the next.
func (r *Reconciler) Reconcile(ctx context.Context, _ string) (reconciler.Result, error) {
	p := &pass{}
	err := r.pass(ctx, p)
	next := r.untilNext(p.decision)
	if errors.Is(err, errRestarting) {
		err = nil // soon told to stop; if not, it goes on
	}
	r.pulse.Begin("wait for the next look", 2*next+loopSlack)
	return reconciler.Result{After: next}, err
}

// loopSlack is how late the next look may come.
const loopSlack = 10 * time.Minute

// Once makes one pass for a person who waits: it does not observe back-off,
// and tries at most once.
func (r *Reconciler) Once(ctx context.Context) (Outcome, error) {
	p := &pass{asked: true}
	err := r.pass(ctx, p)
	known := p.looked && r.documents.accepted != nil && r.documents.publication != nil
	return Outcome{TargetKnown: known, StoreFailed: p.storeFailed, Decision: p.decision}, err
}

// pass runs the steps in order and reports whatever they came to.
func (r *Reconciler) pass(ctx context.Context, p *pass) (err error) {
	defer func() {
		r.putLog(context.WithoutCancel(ctx), p)
		reportErr := r.report(context.WithoutCancel(ctx), p)
		p.storeFailed = p.storeFailed || reportErr != nil
		err = errors.Join(err, reportErr)
	}()
	var storeErr error
	for _, s := range r.steps() {
		r.pulse.Begin(s.name, stepLimit)
		if s.store && storeErr != nil {
			continue
		}
		err = s.run(ctx, p)
		switch {
		case err == nil:
		case s.store && ctx.Err() == nil && !errors.Is(err, errDuplicateHost):
			storeErr = fmt.Errorf("%s: %w", s.name, err)
			p.storeFailed, p.storeProblem = true, storeProblem(s.name, err)
		default:
			return errors.Join(storeErr, r.stepFailed(ctx, p, s, err))
		}
	}
	return storeErr
}

// stepFailed turns what stops the agent into a decision to report: what it stops
// for good, and what is tried again soon, which is an error as well.
func (r *Reconciler) stepFailed(ctx context.Context, p *pass, s step, err error) error {
	d, again := stopped(s.name, err), fmt.Errorf("%s: %w", s.name, err)
	known := d.Reason != v1alpha1.ReasonInternalError
	if errors.Is(err, errRestarting) || (!known && (p.decided || ctx.Err() != nil)) {
		return again
	}
	p.decide(d)
	if d.Reason != v1alpha1.ReasonDuplicateHost { // whose status is another's
		if err := r.claim(ctx, p); err != nil { // to say so
			again = errors.Join(again, err)
		}
	}
	if !d.Stalled && d.Reason != v1alpha1.ReasonRebooting {
		return again
	}
	r.logDecision(p)
	return nil
}

func (p *pass) decide(d plan.Decision) { p.decision, p.decided = d, true }

// untilNext is when to look again: at the adaptive poll, or earlier where the
// decision changes by itself. A heartbeat at the latest.
func (r *Reconciler) untilNext(d plan.Decision) time.Duration {
	now := r.opts.Now()
	next := plan.Poll(r.interval(), now.Sub(r.documents.newest()))
	if left := d.NextAt.Sub(now); !d.NextAt.IsZero() && left > 0 {
		next = min(next, max(time.Duration(float64(left)/(1+jitter)), time.Second)) // the loop's jitter makes it no later
	}
	if d.Reason == v1alpha1.ReasonDuplicateHost {
		return Heartbeat
	}
	return min(next, Heartbeat)
}

// logDecision writes the one line that a pass comes to.
func (r *Reconciler) logDecision(p *pass) {
	target := ""
	if p.desired != nil {
		target = p.desired.Toplevel
	}
	remote, generation := "", int64(0)
	if pub := r.documents.publication; pub != nil {
		remote, generation = pub.Metadata.Name, pub.Metadata.Generation
	}
	said := p.decision
	said.NextAt = r.logged.NextAt // which moves on
	log, known := r.opts.Log, said == r.logged
	if known {
		log = log.V(1) // an idle host has nothing new to say
	}
	r.logged = p.decision
	keys := []any{
		"host", r.opts.Host, "remote", remote, "generation", generation, "target", target,
		"action", p.decision.Action, "reason", p.decision.Reason, "message", p.decision.Message,
	}
	if d := p.decision; !known && d.Action == plan.None && !d.Ready && !d.Waiting {
		log.Error(nil, "Decided", keys...) // somebody should be told
		return
	}
	log.Info("Decided", keys...)
}
