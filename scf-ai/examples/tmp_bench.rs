use std::time::Instant;
use scf_core::*;
fn main(){
 let f=std::fs::read("examples/assets/efficientnet-lite0.safetensors").unwrap();
 let t=Instant::now();let g=scf_ai::efficientnet_lite0(&f,scf_ai::Device::Cpu).unwrap();println!("load {:?}",t.elapsed());
 let n:usize=g.input.elements().unwrap();let b:Vec<u8>=(0..n).flat_map(|i|(((i*7919)%1000) as f32/500.-1.).to_le_bytes()).collect();
 let x=Activation::new(g.input.clone(),b.into()).unwrap();
 let mut w=vec![];for _ in 0..60{let t=Instant::now();let y=g.run(0..18,x.clone()).unwrap();std::hint::black_box(y);w.push(t.elapsed().as_secs_f64()*1e3);}
 w.sort_by(f64::total_cmp);println!("whole med {:.3} min {:.3}",w[30],w[0]);
 let mut a=x.clone();let mut tot=0.;for (i,bl) in g.blocks().iter().enumerate(){let mut w=vec![];let mut y=a.clone();for _ in 0..40{let t=Instant::now();y=bl.forward(a.clone()).unwrap();w.push(t.elapsed().as_secs_f64()*1e3);}w.sort_by(f64::total_cmp);let fl=bl.cost(&g.edges()[i]).flops as f64;println!("{:9} med {:.3} min {:.3} ms {:.1} GFLOPS",bl.name(),w[20],w[0],fl/w[0]/1e6);tot+=w[20];a=y;}
 println!("sum {tot:.3}");
 let s=g.run(0..1,x).unwrap();
 for form in [WireForm::Exact,WireForm::Int8]{let mut e=vec![];let mut d=vec![];for _ in 0..40{let t=Instant::now();let p=scf_ai::to_wire(&s,form).unwrap();e.push(t.elapsed().as_secs_f64()*1e6);let t=Instant::now();std::hint::black_box(scf_ai::from_wire(&p).unwrap());d.push(t.elapsed().as_secs_f64()*1e6);}e.sort_by(f64::total_cmp);d.sort_by(f64::total_cmp);println!("{form:?} 401k elements enc {:.1} us dec {:.1} us",e[20],d[20]);}
}
