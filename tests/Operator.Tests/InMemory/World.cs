using System.Text.Json.Nodes;
using Bgsnap.ControllerRuntime.Client;
using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.Kinds;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Kube;
using Bgsnap.Operator.Shared;
using k8s;
using k8s.Models;
using Microsoft.Extensions.Time.Testing;

namespace Bgsnap.Operator.Tests.InMemory;

/// <summary>
/// A cluster in memory with the operator in it. In each <see cref="Step"/> the operator reconciles every object that changed or is due, one
/// after the other; then nodes and agents act; then a second passes. So each test runs in the same way each time.
/// </summary>
internal sealed class World : IAsyncDisposable
{
    internal const string Namespace = "prod";
    private OperatorInstance _operator;

    internal World(OperatorOptions? options = null)
    {
        Options = options ?? new OperatorOptions { AgentImage = "bgsnap/agent:test" };
        Api = new InMemoryApi(Clock);
        Node = new FakeNode(Api);
        Agents = new FakeAgents(Api, Clock);
        Storage = new FakeStorage(Api, Clock);
        _operator = new OperatorInstance(this);
    }

    internal FakeTimeProvider Clock { get; } = new(new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.Zero));
    internal OperatorOptions Options { get; }
    internal InMemoryApi Api { get; }
    internal FakeNode Node { get; }
    internal FakeAgents Agents { get; }
    internal FakeStorage Storage { get; }
    internal OperatorInstance Operator => _operator;

    /// <summary>Other actors that take part in each step.</summary>
    internal List<Func<Task>> Beside { get; } = [];

    /// <summary>The operator's requests to the API server, over all its runs.</summary>
    internal List<Request> Requests { get; } = [];

    /// <summary>The fault of each request, by the request's number, from 1.</summary>
    internal Func<int, Request, Fault> Fault { get; set; } = (_, _) => InMemory.Fault.None;

    /// <summary>The exceptions that the operator's queue would have logged.</summary>
    internal List<Exception> Problems { get; } = [];

    public ValueTask DisposeAsync() => _operator.DisposeAsync();

    /// <summary>Replaces the operator by a new one that knows only what the API server stores.</summary>
    internal async Task Restart()
    {
        await _operator.DisposeAsync();
        _operator = new OperatorInstance(this);
    }

    /// <summary>The operator acts, then the cluster, then a second passes.</summary>
    internal async Task Step()
    {
        await Reconcile();
        await Node.Tick();
        await Storage.Tick();
        await Agents.Tick();
        foreach (Func<Task> tick in Beside)
            await tick();
        Clock.Advance(TimeSpan.FromSeconds(1));
    }

    /// <summary>The operator reconciles everything that changed or is due, until nothing is left.</summary>
    internal async Task Reconcile()
    {
        while (true)
        {
            try
            {
                await _operator.Drain();
                return;
            }
            catch (CrashException)
            {
                await Restart();
            }
        }
    }

    internal async Task Steps(int count)
    {
        for (int i = 0; i < count; i++)
            await Step();
    }

    internal Task Until(Func<bool> condition, string what, int most = 300) => Until(condition, () => what, most);

    private async Task Until(Func<bool> condition, Func<string> what, int most)
    {
        for (int i = 0; i < most; i++)
        {
            if (condition())
                return;
            await Step();
        }
        Assert.Fail($"after {most} steps still not: {what()}. {string.Join("; ", Problems.Select(p => p.Message).Distinct())}");
    }

    internal Task UntilPhase(string name, string phase, int most = 300) =>
        Until(() => Find(name)?.Status?.Phase == phase, () => $"{name} is {phase} but {Find(name)?.Status?.Phase}", most);

    internal VMBackgroundSnapshot Snapshot(string name) => Find(name) ?? throw new InvalidOperationException($"no snapshot {name}");

    internal VMBackgroundRestore Restore(string name) => FindRestore(name) ?? throw new InvalidOperationException($"no restore {name}");

    internal VMBackgroundRestore? FindRestore(string name) => All(Resources.Restores).FirstOrDefault(r => r.Metadata.Name == name);

    internal Task UntilRestore(string name, string phase, int most = 300) =>
        Until(
            () => FindRestore(name)?.Status?.Phase == phase,
            () => $"{name} is {phase} but {FindRestore(name)?.Status?.Phase} {(FindRestore(name) is null ? "" : RestoreCondition(name))}",
            most
        );

    /// <summary>Condition of a restore as <c>True Reason: message</c>.</summary>
    internal string RestoreCondition(string name, string type = ConditionTypes.Ready) =>
        Restore(name).Status?.Conditions?.SingleOrDefault(c => c.Type == type) is { } c ? $"{c.Status} {c.Reason}: {c.Message}" : "";

    internal Task Add(VMBackgroundRestore restore) => Api.Create(Resources.Restores, restore, default);

    internal Task DeleteRestore(string name) => Api.Delete(Resources.Restores, Namespace, name, null, null, default);

    internal V1Pod? Pod(string name) => All(CoreResources.Pods).FirstOrDefault(p => p.Metadata.Name == name);

    internal V1PersistentVolumeClaim? Claim(string name) => All(CoreResources.Claims).FirstOrDefault(c => c.Metadata.Name == name);

    internal VMBackgroundSnapshot? Find(string name) => All(Resources.Snapshots).FirstOrDefault(s => s.Metadata.Name == name);

    internal List<T> All<T>(ResourceType<T> type)
        where T : class, IKubernetesObject<V1ObjectMeta> => Api.List(type, null, null, default).Result.Items;

    internal List<PodSummary> Carriers => [.. All(Resources.Pods).Where(p => p.Metadata.Labels?.ContainsKey(Names.ManagedByLabel) == true)];

    /// <summary>Condition of a snapshot as <c>True Reason: message</c>.</summary>
    internal string Condition(string name, string type) =>
        Snapshot(name).Status?.Conditions?.SingleOrDefault(c => c.Type == type) is { } c ? $"{c.Status} {c.Reason}: {c.Message}" : "";

    /// <summary>Events on a snapshot as <c>Normal Reason</c>, oldest first.</summary>
    internal IEnumerable<string> Events(string name) => EventObjects(name).Select(e => $"{e.Type} {e.Reason}");

    internal IEnumerable<Corev1Event> EventObjects(string name) =>
        Api
            .History.Where(c => c.Plural == "events" && c.Type == "ADDED")
            .Select(c => Of(CoreResources.Events, c.Object))
            .Where(e => e.InvolvedObject.Name == name);

    /// <summary>The number of tasks ever created.</summary>
    internal int TasksEver(string action) =>
        Api.History.Count(c =>
            c.Plural == "snapshottasks" && c.Type == "ADDED" && c.Object["spec"]!["action"]!.GetValue<string>() == action
        );

    internal Task Add(VMBackgroundSnapshot snapshot) => Api.Create(Resources.Snapshots, snapshot, default);

    internal Task Delete(string name) => Api.Delete(Resources.Snapshots, Namespace, name, null, null, default);

    /// <summary>A user annotates a snapshot.</summary>
    internal Task Annotate(string name, string key, string value) =>
        Api.MergePatch(
            Resources.Snapshots,
            Namespace,
            name,
            null,
            new JsonObject { ["metadata"] = new JsonObject { ["annotations"] = new JsonObject { [key] = value } } },
            default
        );

    internal async Task AddPod(V1Pod pod)
    {
        JsonNode status = System.Text.Json.JsonSerializer.SerializeToNode(pod, CoreResources.Pods.Json)!["status"]!;
        await Api.Create(CoreResources.Pods, pod, default);
        await Api.MergePatch(
            Resources.Pods,
            Namespace,
            pod.Metadata.Name,
            "status",
            new JsonObject { ["status"] = status.DeepClone() },
            default
        );
    }

    internal Task AddClaim(V1PersistentVolumeClaim claim) => Api.Create(CoreResources.Claims, claim, default);

    private static T Of<T>(ResourceType<T> type, JsonObject o)
        where T : class, IKubernetesObject<V1ObjectMeta> => System.Text.Json.JsonSerializer.Deserialize(o, type.Json)!;
}
