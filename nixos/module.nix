# services.npcnix: the agent on a NixOS host.
{ config, lib, pkgs, ... }:

let
  cfg = config.services.npcnix;
  format = pkgs.formats.yaml { };
  stateDir = cfg.settings.stateDir or "/var/lib/npcnix";
in
{
  options.services.npcnix = {
    enable = lib.mkEnableOption "npcnix-reconciler, which keeps this host at the state that its HostSpec declares";

    package = lib.mkOption {
      type = lib.types.package;
      description = "The npcnix package to use.";
    };

    settings = lib.mkOption {
      type = format.type;
      default = { };
      example = { store = "s3://infra/npcnix?region=eu-central-1"; };
      description = ''
        The fields of /etc/npcnix/reconciler.yaml: store, host, stateDir, log,
        and healthChecks.commands, which a HostSpec's exec checks name.
        No secrets belong here; see environmentFile.
      '';
    };

    environmentFile = lib.mkOption {
      type = lib.types.nullOr lib.types.path;
      default = null;
      example = "/run/keys/npcnix";
      description = ''
        File with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for hosts
        without an instance role. It must not be in the Nix store.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    environment.etc."npcnix/reconciler.yaml".source = format.generate "reconciler.yaml"
      ({ apiVersion = "npcnix.dev/v1alpha1"; kind = "ReconcilerConfig"; } // cfg.settings);

    # StateDirectory= makes the usual one; another must be there before the unit starts.
    systemd.tmpfiles.rules = lib.optional (stateDir != "/var/lib/npcnix") "d ${stateDir} 0700 root root -";

    systemd.services.npcnix-reconciler = {
      description = "Keep this host at its declared state";
      documentation = [ "https://github.com/npcnix/npcnix" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      # Nix, what it fetches inputs with, and wall.
      path = [ config.nix.package pkgs.gitMinimal pkgs.openssh pkgs.util-linux ];
      # After a switch the agent restarts itself, once that has ended.
      restartIfChanged = false;
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig = {
        Type = "notify";
        ExecStart = "${cfg.package}/bin/npcnix-reconciler";
        ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
        Restart = "always";
        RestartSec = 5;
        # Fed while the current step is within its own limit.
        WatchdogSec = "2min";
        TimeoutStopSec = "1min";
        # A check or a build that needs too much memory is not the agent's end.
        OOMPolicy = "continue";
        StateDirectory = "npcnix";
        StateDirectoryMode = "0700";
        CacheDirectory = "npcnix";
        CacheDirectoryMode = "0700";
        RuntimeDirectory = "npcnix";
        RuntimeDirectoryMode = "0700";
        # The agent itself changes nothing but its own directories: Nix, switches,
        # their guard and checks run in units of their own.
        CapabilityBoundingSet = "";
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        NoNewPrivileges = true;
        PrivateDevices = true;
        PrivateTmp = true;
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHome = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        ProtectSystem = "strict";
        ReadWritePaths = lib.optional (cfg.settings ? stateDir) cfg.settings.stateDir;
        RestrictAddressFamilies = [ "AF_UNIX" "AF_INET" "AF_INET6" "AF_NETLINK" ];
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        SystemCallArchitectures = "native";
      } // lib.optionalAttrs (cfg.environmentFile != null) {
        EnvironmentFile = cfg.environmentFile;
      };
    };

    # Takes a staged system back that was booted and whose agent does not come
    # up, with the program that staged it.
    systemd.services.npcnix-boot-guard = {
      description = "Take a booted system back that nobody confirms";
      wantedBy = [ "multi-user.target" ];
      # Its time begins when the agent's does.
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      path = [ config.nix.package ];
      restartIfChanged = false;
      unitConfig.ConditionPathExistsGlob = "${stateDir}/transactions/*/rebooting";
      serviceConfig = {
        # $$ and %% are systemd's way to write $ and %.
        ExecStart = "${pkgs.runtimeShell} -c 'for t in ${stateDir}/transactions/*/rebooting; do d=\"\$\${t%%/rebooting}\"; \"\$\$d/guard\" guard --boot \"\$\$d\"; done'";
        Restart = "on-failure";
        RestartSec = 5;
      };
    };
  };
}
