# services.npcnix: the agent on a NixOS host.
{ config, lib, pkgs, ... }:

let
  cfg = config.services.npcnix;
  format = pkgs.formats.yaml { };
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
        The fields of /etc/npcnix/reconciler.yaml: store, host, stateDir, log.
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

    systemd.services.npcnix-reconciler = {
      description = "Keep this host at its declared state";
      documentation = [ "https://github.com/npcnix/npcnix" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      # Nix, and what it fetches inputs with.
      path = [ config.nix.package pkgs.gitMinimal pkgs.openssh ];
      # The agent runs the switch: it must not be stopped by it.
      restartIfChanged = false;
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig = {
        ExecStart = "${cfg.package}/bin/npcnix-reconciler";
        ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
        Restart = "always";
        RestartSec = 10;
        # Signals go to the agent alone: a switch under way ends by itself, also
        # when the agent was killed, and the next agent waits for it.
        KillMode = "process";
        # A builder that needs too much memory is not the agent's end.
        OOMPolicy = "continue";
        TimeoutStopSec = "15min";
        StateDirectory = "npcnix";
        StateDirectoryMode = "0700";
        CacheDirectory = "npcnix";
        CacheDirectoryMode = "0700";
      } // lib.optionalAttrs (cfg.environmentFile != null) {
        EnvironmentFile = cfg.environmentFile;
      };
    };
  };
}
