using Bgsnap.ControllerRuntime.Client;
using Bgsnap.Operator.Kube;
using k8s;
using k8s.Models;
using Microsoft.Extensions.Logging;

namespace Bgsnap.Operator.Events;

/// <summary>Writes events (core/v1) on our objects. An event that cannot be written is only logged.</summary>
internal sealed class EventRecorder(IApiClient api, TimeProvider clock, ILogger<EventRecorder> log)
{
    /// <summary>Reports normal progress.</summary>
    public Task Normal(IKubernetesObject<V1ObjectMeta> about, string reason, string message, CancellationToken stop) =>
        Write(about, "Normal", reason, message, stop);

    /// <summary>Reports something that a user should look at.</summary>
    public Task Warning(IKubernetesObject<V1ObjectMeta> about, string reason, string message, CancellationToken stop) =>
        Write(about, "Warning", reason, message, stop);

    private async Task Write(IKubernetesObject<V1ObjectMeta> about, string type, string reason, string message, CancellationToken stop)
    {
        DateTime now = clock.GetUtcNow().UtcDateTime;
        // Events of objects without a namespace belong in this one.
        string ns = about.Metadata.NamespaceProperty ?? "default";
        now = now.AddTicks(-(now.Ticks % TimeSpan.TicksPerSecond));
        Corev1Event e = new()
        {
            ApiVersion = "v1",
            Kind = "Event",
            Metadata = new V1ObjectMeta { NamespaceProperty = ns, Name = $"{about.Metadata.Name}.{Guid.NewGuid():N}" },
            InvolvedObject = new V1ObjectReference
            {
                ApiVersion = about.ApiVersion,
                Kind = about.Kind,
                Name = about.Metadata.Name,
                NamespaceProperty = about.Metadata.NamespaceProperty,
                Uid = about.Metadata.Uid,
                ResourceVersion = about.Metadata.ResourceVersion,
            },
            Type = type,
            Reason = reason,
            Message = message.Length <= 1024 ? message : message[..1023] + "…",
            Source = new V1EventSource { Component = "bgsnap-operator" },
            FirstTimestamp = now,
            LastTimestamp = now,
            Count = 1,
        };
        try
        {
            await api.Create(CoreResources.Events, e, stop).ConfigureAwait(false);
        }
        catch (Exception problem) when (problem is ApiException or HttpRequestException)
        {
            log.LogInformation("event {Reason} of {Object} was not written: {Why}", reason, about.Metadata.Name, problem.Message);
        }
    }
}
