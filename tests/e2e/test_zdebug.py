import sys
sys.path.insert(0,"/work/main")
from tests.e2e.test_ares import *
def test_dbg(ppo, train_cli, tmp_path, project_root):
    base = {"rollout_batch_size": 1, "per_device_train_batch_size": 1, "num_train_epochs": 1, "critic": "shared"}
    base |= {"reward": "teacher", "teacher": EXACT, "optim": "sgd", "learning_rate": 0.05}
    config = str(project_root / "examples" / "deepspeed" / "ds_z2.json")
    for name, ranks, more in (("plain",1,{"gradient_accumulation_steps":2}),("ds1",1,{"gradient_accumulation_steps":2,"deepspeed":config}),("ds1nowarm",1,{"gradient_accumulation_steps":2,"deepspeed":config,"critic_warmup_epochs":0}),("plainnowarm",1,{"gradient_accumulation_steps":2,"critic_warmup_epochs":0})):
        r = train_cli(ppo(output_dir=str(tmp_path / name), **{**base, **more}), ranks, env={"DS_ACCELERATOR": "cpu"})
        print("DBG", name, r.losses, r.logged("grad_norm") if "grad_norm" in r.history[0] else "", r.logged("value_loss"))
        print("DBG", {k: round(v.norm().item(),5) for k,v in load_file(r.folder / "value_head.safetensors").items()})
