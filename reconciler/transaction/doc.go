// Package transaction brings a system into force, or takes it back, whatever
// dies in between. One directory holds a transaction: plan.json, which is
// written once; marker files; the lock; and outcome.json, how it ended. They and
// the machine are all that is looked at: no journal, no configuration, no
// network.
//
// The agent commits with it, and so does the guard, a process apart from the
// agent that rolls back when the agent does not confirm in time. Whoever holds
// the lock acts, and who comes second finds the outcome.
//
// Package host and cmd use it.
package transaction
