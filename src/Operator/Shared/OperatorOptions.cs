namespace Bgsnap.Operator.Shared;

/// <summary>The operator's options.</summary>
internal sealed record OperatorOptions
{
    /// <summary>Image of carrier pods: the agent's image.</summary>
    public required string AgentImage { get; init; }

    /// <summary>Pull policy of carrier pods.</summary>
    public string PullPolicy { get; init; } = "IfNotPresent";

    /// <summary>Image of the hook sidecar of KubeVirt VMs that are restored; null: the operator cannot restore into KubeVirt.</summary>
    public string? HookImage { get; init; }

    /// <summary>Captures at once on one node, at least 1.</summary>
    public int MaxConcurrentCaptures { get; init; } = 1;

    /// <summary>Restores at once on one node, at least 1.</summary>
    public int MaxConcurrentRestores { get; init; } = 2;

    /// <summary>Reconciliations at once.</summary>
    public int Workers { get; init; } = 8;

    /// <summary>Namespace of the lease; null: no election, this is the only replica.</summary>
    public string? LeaderElectionNamespace { get; init; }

    /// <summary>Kubeconfig file; null: the in-cluster configuration, or the default kubeconfig.</summary>
    public string? Kubeconfig { get; init; }

    /// <summary>Time after which the status reports that no agent has taken a task.</summary>
    public TimeSpan AgentSilence { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Time that an agent has to end a cancelled task.</summary>
    public TimeSpan CancelPatience { get; init; } = TimeSpan.FromSeconds(60);
}
