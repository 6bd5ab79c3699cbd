package host

import "github.com/npcnix/npcnix/apis/v1alpha1"

// notSupported lists the fields of a valid spec that ask for what this agent
// cannot do yet. They are refused as a whole: what is ignored would be a promise
// broken.
func notSupported(s v1alpha1.HostSpecSpec) []string {
	if s.Origin == v1alpha1.OriginClosure {
		return []string{"spec.origin: Closure"}
	}
	return nil
}
