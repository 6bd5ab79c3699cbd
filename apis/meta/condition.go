package meta

import (
	"slices"
	"time"
)

// ConditionStatus is True, False or Unknown.
type ConditionStatus string

// The three values of a condition.
const (
	True    ConditionStatus = "True"
	False   ConditionStatus = "False"
	Unknown ConditionStatus = "Unknown"
)

// MaxMessage is the length in bytes to which messages are cut.
const MaxMessage = 1024

// Condition is one aspect of an object's state, in Kubernetes' form.
type Condition struct {
	Type   string          `json:"type"`
	Status ConditionStatus `json:"status"`
	// ObservedGeneration is the generation of the Remote that was judged.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// LastTransitionTime is when Status last changed.
	LastTransitionTime Time `json:"lastTransitionTime"`
	// Reason is a CamelCase word for programs.
	Reason string `json:"reason"`
	// Message is a sentence for people.
	Message string `json:"message"`
}

// SetCondition adds c to the list or replaces the condition of its type.
// The transition time moves only when the status changes; messages are cut
// to MaxMessage. The list stays sorted by type.
func SetCondition(list *[]Condition, c Condition, now time.Time) {
	c.Message = Cut(c.Message, MaxMessage)
	c.LastTransitionTime = NewTime(now)
	i, found := slices.BinarySearchFunc(*list, c.Type, func(c Condition, t string) int {
		switch {
		case c.Type < t:
			return -1
		case c.Type > t:
			return 1
		default:
			return 0
		}
	})
	if !found {
		*list = slices.Insert(*list, i, c)
		return
	}
	if (*list)[i].Status == c.Status {
		c.LastTransitionTime = (*list)[i].LastTransitionTime
	}
	(*list)[i] = c
}

// FindCondition returns the condition of type t, or nil.
func FindCondition(list []Condition, t string) *Condition {
	for i := range list {
		if list[i].Type == t {
			return &list[i]
		}
	}
	return nil
}

// IsTrue reports whether the condition of type t is there and True.
func IsTrue(list []Condition, t string) bool {
	c := FindCondition(list, t)
	return c != nil && c.Status == True
}
