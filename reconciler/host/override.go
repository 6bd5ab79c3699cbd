package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/plan"
	"github.com/npcnix/npcnix/store"
)

// adoptedOverride is the HostOverride in force.
type adoptedOverride struct {
	etag, digest string
	spec         v1alpha1.HostOverrideSpec
}

// observeOverride looks at the HostOverride and adopts it if it is fully
// understood. One that was adopted ends with a 404 alone: who may not read it
// any more does not lift a suspension.
func (r *Reconciler) observeOverride(ctx context.Context, _ *pass) error {
	d := &r.documents
	data, changed, err := d.override.look(ctx, r.opts.Store, store.OverrideKey(r.opts.Host))
	if errors.Is(err, store.ErrAccessDenied) && d.adopted == nil {
		d.override, d.overrideProblem = known{}, nil
		return nil
	}
	if err != nil || !changed {
		return err
	}
	if !d.override.present {
		r.forget(r.savedOverride(), &d.override)
		d.adopted, d.overrideProblem = nil, nil
		return nil
	}
	adopted, problem := acceptOverride(d.override, data, r.opts.Host)
	d.overrideProblem = problem
	if adopted == nil {
		return nil // the last good one stays in force
	}
	if d.adopted != nil && d.adopted.digest == adopted.digest {
		adopted.etag = d.adopted.etag // uploaded again, and no change
	}
	d.adopted = adopted
	r.keep(r.savedOverride(), &d.override, data)
	return nil
}

// acceptOverride decodes a HostOverride as strictly as its writers do.
func acceptOverride(k known, data []byte, host string) (*adoptedOverride, *plan.Problem) {
	invalid := func(err error) (*adoptedOverride, *plan.Problem) {
		return nil, notAdopted(v1alpha1.KindHostOverride, err)
	}
	doc, more, err := only(k, data)
	if more {
		return nil, unsupportedFields([]string{secondDocument})
	}
	if err != nil {
		return invalid(err)
	}
	override, err := codec.DecodeStrict[v1alpha1.HostOverride](doc, v1alpha1.KindHostOverride)
	if err == nil && override.Metadata.Name != host {
		err = fmt.Errorf("%s: metadata.name is %s, expected %s", k.key, override.Metadata.Name, host)
	}
	if err != nil {
		return invalid(err)
	}
	digest, err := codec.SpecDigest(doc)
	if err != nil {
		return invalid(err)
	}
	return &adoptedOverride{etag: k.etag, digest: digest, spec: override.Spec}, nil
}

// override is what the HostOverride in force asks for.
func (d *documents) overrideSpec() v1alpha1.HostOverrideSpec {
	if d.adopted == nil {
		return v1alpha1.HostOverrideSpec{}
	}
	return d.adopted.spec
}

// takeUp takes up what was asked for anew, through the override or on the host.
// It counts until an attempt has ended, or nothing is left to do, whatever holds
// the host back until then.
func (r *Reconciler) takeUp(p *pass) error {
	j := r.journal
	here, retryHere := r.requests.take()
	reconcile, retry := r.requested()
	if !here && !reconcile && !retry {
		return nil
	}
	j.Asked, p.attempted = true, false
	if retryHere || (retry && p.storeProblem == nil) { // the latter once: with it, it counts as handled
		j.forgive()
	}
	if !here { // it is saved once it is decided upon
		return nil
	}
	if err := r.save(); err != nil {
		r.requests.put(retryHere)
		return err
	}
	return r.requests.forget(r.requestFile())
}

// handled remembers which requests were taken up, once a decision is made in view
// of them: a look without the store leaves that to the next one.
func (r *Reconciler) handled(in plan.Input) error {
	if reconcile, retry := r.requested(); in.StoreProblem != nil || (!reconcile && !retry) {
		return nil
	}
	asked := r.documents.overrideSpec()
	r.journal.Handled = v1alpha1.Handled{ReconcileRequestedAt: asked.ReconcileRequestedAt, RetryRequestedAt: asked.RetryRequestedAt}
	return r.save()
}

// requested says which requests of the override are not handled yet.
func (r *Reconciler) requested() (reconcile, retry bool) {
	asked, handled := r.documents.overrideSpec(), r.journal.Handled
	return anew(asked.ReconcileRequestedAt, handled.ReconcileRequestedAt), anew(asked.RetryRequestedAt, handled.RetryRequestedAt)
}

// anew reports whether a request is another one than the one that was handled.
func anew(asked, handled *meta.Time) bool {
	return asked != nil && (handled == nil || !asked.Equal(handled.Time))
}

// suspension returns what suspends the host at now: its HostSpec, its
// HostOverride or a person on the host, all of them together; nil if none does.
// An end is believed to a clock that agrees with the store's alone.
func (r *Reconciler) suspension(now time.Time) *plan.Suspension {
	var all []plan.Suspension
	add := func(by string, s *v1alpha1.Suspend) {
		if s == nil {
			return
		}
		one := plan.Suspension{By: by, Reason: s.Reason}
		if s.Until != nil {
			if one.Until = s.Until.Time; !now.Before(one.Until) && !r.skewed() {
				return
			}
		}
		all = append(all, one)
	}
	if a := r.documents.accepted; a != nil {
		add("by its HostSpec", a.spec.Suspend)
	}
	add("by its HostOverride", r.documents.overrideSpec().Suspend)
	if local := r.Suspended(); local != nil {
		all = append(all, plan.Suspension{By: "on the host", Reason: local.Reason, Until: local.Until})
	}
	return together(all)
}

// together is one suspension in the place of all: it ends with the last of them.
func together(all []plan.Suspension) *plan.Suspension {
	if len(all) == 0 {
		return nil
	}
	sum := all[0]
	for _, s := range all[1:] {
		sum.By += " and " + s.By
		switch {
		case sum.Reason == "":
			sum.Reason = s.Reason
		case s.Reason != "":
			sum.Reason += ", " + s.Reason
		}
		if s.Until.IsZero() || (!sum.Until.IsZero() && s.Until.After(sum.Until)) {
			sum.Until = s.Until
		}
	}
	return &sum
}
