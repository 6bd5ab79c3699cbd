package v1alpha1

// Condition types of a HostStatus. Ready, Reconciling and Stalled have the
// meaning that kstatus gives them.
const (
	// ConditionReady: the last observation saw the desired system running and healthy.
	ConditionReady = "Ready"
	// ConditionReconciling: the host is on its way to the desired system, or will try again by itself.
	ConditionReconciling = "Reconciling"
	// ConditionStalled: nothing more happens until a person changes something.
	ConditionStalled = "Stalled"
	// ConditionSpecAccepted: the HostSpec was read, understood and is in force.
	ConditionSpecAccepted = "SpecAccepted"
	// ConditionSourceVerified: the remote's archive was fetched and is what the Remote says.
	ConditionSourceVerified = "SourceVerified"
	// ConditionBuilt: the desired toplevel is built.
	ConditionBuilt = "Built"
	// ConditionStaged: the desired toplevel is the boot default.
	ConditionStaged = "Staged"
	// ConditionActivated: the desired toplevel, or a specialisation of it, runs.
	ConditionActivated = "Activated"
	// ConditionHealthy: what runs passed its checks.
	ConditionHealthy = "Healthy"
	// ConditionRebootRequired: the running system wants another kernel than the booted one.
	ConditionRebootRequired = "RebootRequired"
	// ConditionSuspended: new action is stopped by the spec or the override.
	ConditionSuspended = "Suspended"
	// ConditionClockSkewed: the host's clock is too far from the store's.
	ConditionClockSkewed = "ClockSkewed"
)

// Reasons say why a condition has its status. Each is the only spelling of its fact.
const (
	// ReasonUpToDate: the desired system runs, is the profile's and the boot default.
	ReasonUpToDate = "UpToDate"
	// ReasonAccepted: the document is in force.
	ReasonAccepted = "Accepted"
	// ReasonVerified: the archive has the digest and contents that the Remote names.
	ReasonVerified = "Verified"
	// ReasonBuilt: Nix built the toplevel, or had it.
	ReasonBuilt = "BuildSucceeded"
	// ReasonRunning: the running system is the desired one.
	ReasonRunning = "Running"
	// ReasonNotRunning: another system than the desired one runs.
	ReasonNotRunning = "NotRunning"
	// ReasonPending: the step has not been reached.
	ReasonPending = "Pending"
	// ReasonProgressing: a step is under way.
	ReasonProgressing = "Progressing"
	// ReasonRetrying: the last attempt failed and is tried again at nextAttemptAt.
	ReasonRetrying = "Retrying"

	// ReasonStoreUnavailable: the store does not answer; tried again for ever.
	ReasonStoreUnavailable = "StoreUnavailable"
	// ReasonAccessDenied: the store refuses the host's credentials.
	ReasonAccessDenied = "AccessDenied"
	// ReasonBucketNotFound: the store's bucket or directory does not exist.
	ReasonBucketNotFound = "BucketNotFound"
	// ReasonDuplicateHost: another machine reports under this host's name.
	ReasonDuplicateHost = "DuplicateHost"
	// ReasonJournalTooNew: a newer agent left a journal that this one must not touch.
	ReasonJournalTooNew = "JournalTooNew"
	// ReasonJournalLost: the journal could not be used, or is gone; earlier attempts are not known any more.
	ReasonJournalLost = "JournalLost"

	// ReasonSpecNotFound: there is no HostSpec for this host; it keeps what it runs.
	ReasonSpecNotFound = "SpecNotFound"
	// ReasonSpecInvalid: the HostSpec or HostOverride is not fully understood and not adopted.
	ReasonSpecInvalid = "SpecInvalid"
	// ReasonNotSupported: a document asks for what this version of the agent cannot do yet.
	ReasonNotSupported = "NotSupported"
	// ReasonSuspended: an operator suspended the host.
	ReasonSuspended = "Suspended"
	// ReasonRemoteNotFound: the remote was never published, or is gone.
	ReasonRemoteNotFound = "RemoteNotFound"
	// ReasonRemoteInvalid: the Remote document cannot be understood.
	ReasonRemoteInvalid = "RemoteInvalid"

	// ReasonArchiveNotFound: the archive that the Remote names is not in the store.
	ReasonArchiveNotFound = "ArchiveNotFound"
	// ReasonArchiveInvalid: the archive is not what the Remote says, or breaks the rules for archives.
	ReasonArchiveInvalid = "ArchiveInvalid"
	// ReasonAttributeNotFound: the flake has no such nixosConfigurations attribute.
	ReasonAttributeNotFound = "AttributeNotFound"
	// ReasonEvaluationFailed: Nix could not evaluate the flake.
	ReasonEvaluationFailed = "EvaluationFailed"
	// ReasonInputUnavailable: Nix could not fetch an input; tried again for ever.
	ReasonInputUnavailable = "InputUnavailable"
	// ReasonBuildFailed: a builder failed, or the build ran into its time limit.
	ReasonBuildFailed = "BuildFailed"
	// ReasonNixUnavailable: Nix itself does not work: no daemon, a locked database, no memory; tried again for ever.
	ReasonNixUnavailable = "NixUnavailable"
	// ReasonDiskFull: the disk is full.
	ReasonDiskFull = "DiskFull"
	// ReasonStateNotWritable: the agent's state directory cannot be written, so that nothing can be remembered and nothing is begun.
	ReasonStateNotWritable = "StateNotWritable"
	// ReasonRootNotSupported: under --root only a toplevel that is marked for it is activated.
	ReasonRootNotSupported = "RootNotSupported"
	// ReasonActivationFailed: switching to the new system failed.
	ReasonActivationFailed = "ActivationFailed"
	// ReasonInterrupted: the agent ended in the middle of an attempt, or a newer generation took its place.
	ReasonInterrupted = "Interrupted"
	// ReasonBootLoaderFailed: the new system runs, but could not be made the boot default.
	ReasonBootLoaderFailed = "BootLoaderFailed"
	// ReasonProfileFailed: the new system runs, but could not be made the profile's.
	ReasonProfileFailed = "ProfileFailed"
	// ReasonRebootRequired: the new system can only be started by a reboot.
	ReasonRebootRequired = "RebootRequired"
	// ReasonDrifted: the host was changed by hand.
	ReasonDrifted = "Drifted"
	// ReasonRetriesExhausted: the target failed as often as the policy allows.
	ReasonRetriesExhausted = "RetriesExhausted"
	// ReasonNotChecked: no health check of what runs has ended yet.
	ReasonNotChecked = "NotChecked"
	// ReasonHealthChecksPassed: every health check succeeds.
	ReasonHealthChecksPassed = "HealthChecksPassed"
	// ReasonHealthCheckFailed: a health check does not succeed.
	ReasonHealthCheckFailed = "HealthCheckFailed"
	// ReasonStoreLost: the store could not be reached from the new system.
	ReasonStoreLost = "StoreLost"
	// ReasonNotConfirmed: no agent confirmed the new system in time, so the guard took it back.
	ReasonNotConfirmed = "NotConfirmed"
	// ReasonRollbackFailed: the new system failed, and the earlier one could not be brought back.
	ReasonRollbackFailed = "RollbackFailed"
	// ReasonSuperseded: a person switched the host during the transaction, which changed nothing since.
	ReasonSuperseded = "Superseded"
	// ReasonQuarantined: the target was taken back; it is not tried again until it or its policy changes, or an operator says retry.
	ReasonQuarantined = "Quarantined"
	// ReasonInconclusive: the store was lost on the new system and on the old one; the target is tried again.
	ReasonInconclusive = "Inconclusive"
	// ReasonAgentRemoved: the target does not start the agent, and rebuildPolicy.allowAgentRemoval does not name the host.
	ReasonAgentRemoved = "AgentRemoved"
	// ReasonSwitchActive: something else switches the host just now.
	ReasonSwitchActive = "SwitchActive"
	// ReasonBootedOther: the host booted another system than the committed one; a person or a boot counter wanted that.
	ReasonBootedOther = "BootedOther"
	// ReasonNoSwitch: the toplevel has no switch-to-configuration.
	ReasonNoSwitch = "NoSwitch"
	// ReasonRebootPending: the system is the boot default and comes into force with a reboot.
	ReasonRebootPending = "RebootPending"
	// ReasonRebooting: the host was told to reboot.
	ReasonRebooting = "Rebooting"
	// ReasonRebootFailed: the host was told three times to reboot, and did not.
	ReasonRebootFailed = "RebootFailed"
	// ReasonRebootNotRequired: what was booted has the kernel, initrd, modules and parameters of what runs.
	ReasonRebootNotRequired = "RebootNotRequired"
	// ReasonWaitingForWindow: the step waits for the maintenance window, or for the host's own part of it.
	ReasonWaitingForWindow = "WaitingForWindow"
	// ReasonClockSkewed: the host's clock is more than two minutes off the store's.
	ReasonClockSkewed = "ClockSkewed"
	// ReasonClockAgrees: the host's clock agrees with the store's.
	ReasonClockAgrees = "ClockAgrees"
	// ReasonTested: the desired system runs and is confirmed; the policy's mode makes it not permanent.
	ReasonTested = "Tested"
	// ReasonBuiltOnly: the policy's mode activates nothing.
	ReasonBuiltOnly = "BuiltOnly"
	// ReasonInternalError: the agent itself failed.
	ReasonInternalError = "InternalError"
)
