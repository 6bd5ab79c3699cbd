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
	// Do: look at the network and the store; the agent's log says what failed.
	ReasonStoreUnavailable = "StoreUnavailable"
	// ReasonAccessDenied: the store refuses the host's credentials.
	// Do: look at the host's credentials and at what they may read and write.
	ReasonAccessDenied = "AccessDenied"
	// ReasonBucketNotFound: the store's bucket or directory does not exist.
	// Do: look at the store's URL in /etc/npcnix/reconciler.yaml.
	ReasonBucketNotFound = "BucketNotFound"
	// ReasonDuplicateHost: another machine reports under this host's name.
	// Do: stop one of the two machines, or give one another name; a machine that is gone is taken over from after 15 minutes.
	ReasonDuplicateHost = "DuplicateHost"
	// ReasonJournalTooNew: a newer agent left a journal that this one must not touch.
	// Do: start the newer agent again, or move the journal away as the message says.
	ReasonJournalTooNew = "JournalTooNew"
	// ReasonJournalLost: the journal could not be used, or is gone; earlier attempts are not known any more.
	// Do: nothing; the damaged file is kept beside the journal, for whoever wants to know why.
	ReasonJournalLost = "JournalLost"

	// ReasonSpecNotFound: there is no HostSpec for this host; it keeps what it runs.
	// Do: npcnix apply the HostSpec, or npcnix delete host --purge if the host is gone.
	ReasonSpecNotFound = "SpecNotFound"
	// ReasonSpecInvalid: the HostSpec or HostOverride is not fully understood and not adopted.
	// Do: mend what the message names; npcnix validate says it before it is applied.
	ReasonSpecInvalid = "SpecInvalid"
	// ReasonNotSupported: a document asks for what this version of the agent cannot do yet.
	// Do: remove what the message names, or bring a newer agent to the host.
	ReasonNotSupported = "NotSupported"
	// ReasonSuspended: an operator suspended the host.
	// Do: npcnix resume HOST, npcnix-reconciler resume on the host, or the HostSpec; the message says who suspended it.
	ReasonSuspended = "Suspended"
	// ReasonRemoteNotFound: the remote was never published, or is gone.
	// Do: npcnix push --remote NAME, or mend spec.remote.
	ReasonRemoteNotFound = "RemoteNotFound"
	// ReasonRemoteInvalid: the Remote document cannot be understood.
	// Do: npcnix push it again.
	ReasonRemoteInvalid = "RemoteInvalid"

	// ReasonArchiveNotFound: the archive that the Remote names is not in the store.
	// Do: npcnix push the remote again.
	ReasonArchiveNotFound = "ArchiveNotFound"
	// ReasonArchiveInvalid: the archive is not what the Remote says, or breaks the rules for archives.
	// Do: npcnix push the remote again; find out who else writes to archives/.
	ReasonArchiveInvalid = "ArchiveInvalid"
	// ReasonAttributeNotFound: the flake has no such nixosConfigurations attribute.
	// Do: mend spec.flakeAttribute or the flake.
	ReasonAttributeNotFound = "AttributeNotFound"
	// ReasonEvaluationFailed: Nix could not evaluate the flake.
	// Do: mend the flake; npcnix logs HOST shows all of what Nix said.
	ReasonEvaluationFailed = "EvaluationFailed"
	// ReasonInputUnavailable: Nix could not fetch an input; tried again for ever.
	// Do: look at the host's network and at the access tokens in its nix.conf.
	ReasonInputUnavailable = "InputUnavailable"
	// ReasonBuildFailed: a builder failed, or the build ran into its time limit.
	// Do: npcnix logs HOST; mend the flake, or npcnix reconcile HOST --retry.
	ReasonBuildFailed = "BuildFailed"
	// ReasonNixUnavailable: Nix itself does not work: no daemon, a locked database, no memory; tried again for ever.
	// Do: look at the Nix daemon and the memory of the host.
	ReasonNixUnavailable = "NixUnavailable"
	// ReasonDiskFull: the disk is full.
	// Do: make room as the message says, or set rebuildPolicy.diskFull: GarbageCollect.
	ReasonDiskFull = "DiskFull"
	// ReasonStateNotWritable: the agent's state directory cannot be written, so that nothing can be remembered and nothing is begun.
	// Do: make room on the file system of /var/lib/npcnix, or make it writable.
	ReasonStateNotWritable = "StateNotWritable"
	// ReasonRootNotSupported: under --root only a toplevel that is marked for it is activated.
	// Do: nothing; --root is for systems that are made for it.
	ReasonRootNotSupported = "RootNotSupported"
	// ReasonActivationFailed: switching to the new system failed.
	// Do: npcnix logs HOST shows what the switch printed.
	ReasonActivationFailed = "ActivationFailed"
	// ReasonInterrupted: the agent ended in the middle of an attempt, or a newer generation took its place.
	// Do: nothing; it is tried again.
	ReasonInterrupted = "Interrupted"
	// ReasonBootLoaderFailed: the new system runs, but could not be made the boot default.
	// Do: npcnix logs HOST; look at /boot.
	ReasonBootLoaderFailed = "BootLoaderFailed"
	// ReasonProfileFailed: the profile cannot be set: to the new system, which runs, or back from one that waits for a reboot.
	// Do: look at /nix/var/nix/profiles and the disk of the host.
	ReasonProfileFailed = "ProfileFailed"
	// ReasonRebootRequired: the new system can only be started by a reboot.
	// Do: reboot the host, or let rebuildPolicy.reboot do it.
	ReasonRebootRequired = "RebootRequired"
	// ReasonDrifted: the host was changed by hand.
	// Do: nothing, or npcnix suspend HOST to keep what was changed; publish it to keep it for good.
	ReasonDrifted = "Drifted"
	// ReasonRetriesExhausted: the target failed as often as the policy allows.
	// Do: mend the flake, or npcnix reconcile HOST --retry.
	ReasonRetriesExhausted = "RetriesExhausted"
	// ReasonNotChecked: no health check of what runs has ended yet.
	ReasonNotChecked = "NotChecked"
	// ReasonHealthChecksPassed: every health check succeeds.
	ReasonHealthChecksPassed = "HealthChecksPassed"
	// ReasonHealthCheckFailed: a health check does not succeed.
	// Do: look at the unit or check that the message names.
	ReasonHealthCheckFailed = "HealthCheckFailed"
	// ReasonStoreLost: the store could not be reached from the new system.
	// Do: look at what the new system does to the network, and at the store.
	ReasonStoreLost = "StoreLost"
	// ReasonNotConfirmed: no agent confirmed the new system in time, so the guard took it back.
	// Do: journalctl -u npcnix-reconciler on the host says why its agent did not come up.
	ReasonNotConfirmed = "NotConfirmed"
	// ReasonRollbackFailed: the new system failed, and the earlier one could not be brought back.
	// Do: run the command that the message names on the host.
	ReasonRollbackFailed = "RollbackFailed"
	// ReasonSuperseded: a person switched the host during the transaction, which changed nothing since.
	// Do: nothing; it goes on as drift.
	ReasonSuperseded = "Superseded"
	// ReasonQuarantined: the target was taken back; it is not tried again until it or its policy changes, or an operator says retry.
	// Do: mend the flake, or npcnix reconcile HOST --retry if the cause is gone.
	ReasonQuarantined = "Quarantined"
	// ReasonInconclusive: the store was lost on the new system and on the old one; the target is tried again.
	// Do: look at the network and the store; it is tried again by itself.
	ReasonInconclusive = "Inconclusive"
	// ReasonAgentRemoved: the target does not start the agent, and rebuildPolicy.allowAgentRemoval does not name the host.
	// Do: add services.npcnix to the configuration, or set rebuildPolicy.allowAgentRemoval to the host's name.
	ReasonAgentRemoved = "AgentRemoved"
	// ReasonSwitchActive: something else switches the host just now.
	// Do: nothing; it waits until that has ended.
	ReasonSwitchActive = "SwitchActive"
	// ReasonBootedOther: the host booted another system than the committed one; a person or a boot counter wanted that.
	// Do: npcnix reconcile HOST --retry to go on, or publish something else.
	ReasonBootedOther = "BootedOther"
	// ReasonNoSwitch: the toplevel has no switch-to-configuration.
	// Do: publish a NixOS system.
	ReasonNoSwitch = "NoSwitch"
	// ReasonRebootPending: the system is the boot default and comes into force with a reboot.
	// Do: reboot the host when it suits.
	ReasonRebootPending = "RebootPending"
	// ReasonRebooting: the host was told to reboot.
	// Do: nothing; it is asked up to three times.
	ReasonRebooting = "Rebooting"
	// ReasonRebootFailed: the host did not reboot, though it was told three times; or it cannot be told; or two boots ended without a verdict.
	// Do: look at what the message names, systemctl list-jobs for one; reboot the host by hand, or npcnix reconcile HOST --retry.
	ReasonRebootFailed = "RebootFailed"
	// ReasonRebootNotRequired: what was booted has the kernel, initrd, modules and parameters of what runs.
	ReasonRebootNotRequired = "RebootNotRequired"
	// ReasonWaitingForWindow: the step waits for the maintenance window, or for the host's own part of it.
	// Do: nothing, or npcnix reconcile HOST --open-window-until T; npcnix window HOST explains the window.
	ReasonWaitingForWindow = "WaitingForWindow"
	// ReasonNoWindow: no maintenance window within 370 days is long enough for the step.
	// Do: lengthen the window, or lower rebuildPolicy.timeouts; npcnix window HOST explains the window.
	ReasonNoWindow = "NoWindow"
	// ReasonClockSkewed: the host's clock is more than two minutes off the store's.
	// Do: set the clock of the host, and let a service keep it.
	ReasonClockSkewed = "ClockSkewed"
	// ReasonClockAgrees: the host's clock agrees with the store's.
	ReasonClockAgrees = "ClockAgrees"
	// ReasonTested: the desired system runs and is confirmed; the policy's mode makes it not permanent.
	ReasonTested = "Tested"
	// ReasonBuiltOnly: the policy's mode activates nothing.
	ReasonBuiltOnly = "BuiltOnly"
	// ReasonNoStatus: the host has never reported. Said by npcnix, as are the next four.
	// Do: see that npcnix-reconciler runs there, and look at its store, name and credentials: journalctl -u npcnix-reconciler.
	ReasonNoStatus = "NoStatus"
	// ReasonStatusUnreadable: the host's status cannot be understood by this version of npcnix.
	// Do: use an npcnix that is as new as the host's agent.
	ReasonStatusUnreadable = "StatusUnreadable"
	// ReasonSilent: the host has not reported for three heartbeats, which are 15 minutes.
	// Do: look at the machine and its network, then at systemctl status npcnix-reconciler.
	ReasonSilent = "Silent"
	// ReasonUndeclared: the host was Ready, and is not declared any more.
	// Do: npcnix apply its HostSpec, or npcnix delete host --purge if it is gone.
	ReasonUndeclared = "Undeclared"
	// ReasonOutdated: the host was Ready, and has not looked at the present HostSpec yet.
	ReasonOutdated = "Outdated"

	// ReasonInternalError: the agent itself failed.
	// Do: read the agent's log; it tries again by itself.
	ReasonInternalError = "InternalError"
)
