using System.Text.Json.Nodes;
using Bgsnap.Chart.Tests.Harness;

namespace Bgsnap.Chart.Tests;

/// <summary>What the pods may and may not.</summary>
public sealed class PodTests
{
    private static readonly Lazy<Rendering> Default = new(() => ChartRenderer.Render().Succeeded());

    private static readonly JsonObject Operator = Default.Value["Deployment/bgsnap-operator"].PodSpec!;

    private static readonly JsonObject Agent = Default.Value["DaemonSet/bgsnap-agent"].PodSpec!;

    /// <summary>Everything that Pod Security's profile "restricted" asks for, and a read-only root beside it.</summary>
    [Fact]
    public void The_operator_can_do_nothing_to_its_node()
    {
        AssertJson(
            """{ "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": { "type": "RuntimeDefault" } }""",
            Operator["securityContext"]
        );
        AssertJson(
            """{ "privileged": false, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } }""",
            Operator["containers"]![0]!["securityContext"]
        );
        foreach (string key in (string[])["hostPID", "hostIPC", "hostNetwork", "volumes", "initContainers", "hostUsers"])
            Assert.Null(Operator[key]);
        Assert.Single(Operator["containers"]!.AsArray());
    }

    [Fact]
    public void The_agent_sees_processes_but_no_host_path_and_no_host_network()
    {
        Assert.True((bool)Agent["hostPID"]!);
        AssertJson(
            """{ "privileged": true, "runAsUser": 0, "runAsGroup": 0, "readOnlyRootFilesystem": true }""",
            Agent["containers"]![0]!["securityContext"]
        );
        foreach (string key in (string[])["hostIPC", "hostNetwork", "initContainers"])
            Assert.Null(Agent[key]);
        Assert.Single(Agent["containers"]!.AsArray());
        Assert.All(Agent["volumes"]!.AsArray(), v => Assert.Equal(["name", "emptyDir"], v!.AsObject().Select(p => p.Key)));
    }

    [Fact]
    public void Metrics_listen_on_localhost_unless_they_are_wanted_and_then_ask_for_a_token()
    {
        foreach (JsonObject pod in (JsonObject[])[Operator, Agent])
        {
            Assert.Contains("--metrics-address=127.0.0.1:8080", Arguments(pod));
            Assert.DoesNotContain(pod["containers"]![0]!["ports"]!.AsArray(), p => (string)p!["name"]! == "metrics");
        }
        Rendering open = ChartRenderer.Render(ChartRenderer.Values(("metrics.enabled", true))).Succeeded();
        foreach (KubernetesObject workload in open.OfKind("Deployment", "DaemonSet"))
        {
            Assert.Contains("--metrics-address=0.0.0.0:8080", Arguments(workload.PodSpec!));
            Assert.Contains("--metrics-auth=token", Arguments(workload.PodSpec!));
        }
    }

    /// <summary>Exactly these: both programs refuse what they do not know.</summary>
    [Fact]
    public void The_command_lines_are_those_the_programs_take()
    {
        Assert.Equal(
            [
                "--agent-image=bgsnap/agent:0.1.0",
                "--agent-image-pull-policy=IfNotPresent",
                "--hook-image=bgsnap/operator:0.1.0",
                "--max-concurrent-captures=1",
                "--max-concurrent-restores=2",
                "--health-address=0.0.0.0:8081",
                "--metrics-address=127.0.0.1:8080",
                "--metrics-auth=none",
                "--leader-election-namespace=$(POD_NAMESPACE)",
                "--log-level=Information",
                "--log-format=json",
            ],
            Arguments(Operator)
        );
        Assert.Equal(
            [
                "node",
                "--node-name=$(NODE_NAME)",
                "--health-address=0.0.0.0:8081",
                "--metrics-address=127.0.0.1:8080",
                "--metrics-auth=none",
                "--scratch=/scratch",
                "--scratch-limit=10Gi",
                "--max-concurrent-captures=1",
                "--log-level=Information",
            ],
            Arguments(Agent)
        );
    }

    [Theory]
    [InlineData("Deployment/bgsnap-operator", "src/Operator/OperatorCommand.cs")]
    [InlineData("DaemonSet/bgsnap-agent", "src/NodeAgent/Cli/NodeCommand.cs")]
    public void The_options_are_in_the_programs_source(string workload, string source)
    {
        string code = Repository.Read(source) + Repository.Read("src/ControllerRuntime/Hosting/ServingOptions.cs");
        string[] options =
        [
            .. Arguments(Default.Value[workload].PodSpec!)
                .Where(a => a.StartsWith("--", StringComparison.Ordinal))
                .Select(a => a.Split('=')[0]),
        ];
        Assert.NotEmpty(options);
        Assert.All(options, option => Assert.Contains($"(\"{option}\"", code, StringComparison.Ordinal));
    }

    [Fact]
    public void A_guest_never_waits_for_an_agent_without_cpu()
    {
        Assert.Null(Pointer.At(Agent, "/containers/0/resources/limits/cpu"));
        Assert.NotNull(Pointer.At(Agent, "/containers/0/resources/limits/memory"));
        Assert.Equal("bgsnap", (string?)Agent["priorityClassName"]);
        Assert.Equal("Never", (string?)Default.Value["PriorityClass/bgsnap"]["/preemptionPolicy"]);
    }

    [Fact]
    public void The_agent_runs_wherever_a_vm_may_run() => AssertJson("""[{ "operator": "Exists" }]""", Agent["tolerations"]);

    [Fact]
    public void Probes_ask_the_health_port()
    {
        foreach (JsonNode container in (JsonNode[])[Operator["containers"]![0]!, Agent["containers"]![0]!])
        {
            AssertJson("""{ "path": "/healthz", "port": "health" }""", container["livenessProbe"]!["httpGet"]);
            AssertJson("""{ "path": "/readyz", "port": "health" }""", container["readinessProbe"]!["httpGet"]);
        }
    }

    [Fact]
    public void Only_the_pods_themselves_get_a_token()
    {
        Assert.All(Default.Value.OfKind("ServiceAccount"), a => Assert.False((bool)a.Json["automountServiceAccountToken"]!));
        Assert.True((bool)Operator["automountServiceAccountToken"]!);
        Assert.True((bool)Agent["automountServiceAccountToken"]!);
    }

    [Fact]
    public void Selectors_find_their_pods()
    {
        Rendering all = ChartRenderer
            .Render(ChartRenderer.Values(("metrics.enabled", true), ("metrics.serviceMonitor.enabled", true), ("nameOverride", "other")))
            .Succeeded();
        Dictionary<string, JsonObject> pods = all.OfKind("Deployment", "DaemonSet")
            .ToDictionary(w => w.Labels["app.kubernetes.io/component"]!.ToString(), w => (JsonObject)w["/spec/template/metadata/labels"]!);
        Assert.Equal(2, pods.Count);
        foreach (KubernetesObject workload in all.OfKind("Deployment", "DaemonSet"))
            Selectors.AssertSelectsItsPods(workload);
        foreach (KubernetesObject other in all.OfKind("Service", "PodDisruptionBudget", "NetworkPolicy"))
        {
            var selector = (JsonObject)
                (other["/spec/selector/matchLabels"] ?? other["/spec/podSelector/matchLabels"] ?? other["/spec/selector"])!;
            Assert.Equal(
                [other.Labels["app.kubernetes.io/component"]!.ToString()],
                pods.Where(p => Selectors.Selects(selector, p.Value)).Select(p => p.Key)
            );
        }
        foreach (KubernetesObject monitor in all.OfKind("ServiceMonitor"))
        {
            var selector = (JsonObject)monitor["/spec/selector/matchLabels"]!;
            Assert.Equal(
                [$"{monitor.Name}-metrics"],
                all.OfKind("Service").Where(s => Selectors.Selects(selector, s.Labels)).Select(s => s.Name)
            );
        }
    }

    private static string[] Arguments(JsonObject pod) => [.. pod["containers"]![0]!["args"]!.AsArray().Select(a => (string)a!)];

    private static void AssertJson(string expected, JsonNode? found) =>
        Assert.True(
            JsonNode.DeepEquals(JsonNode.Parse(expected), found),
            $"expected {expected}, found {found?.ToJsonString() ?? "nothing"}"
        );
}
